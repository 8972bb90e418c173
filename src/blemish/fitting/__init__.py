"""From good images to a model: a plan, one pass that learns, a calibration."""

from blemish.fitting.fit import fit
from blemish.fitting.plan import Plan
from blemish.fitting.refit import check_images, refit

__all__ = [
    "Plan",
    "check_images",
    "fit",
    "refit",
]
