"""From good images to a model: plan, learn, calibrate."""

from blemish.fitting.fit import fit
from blemish.fitting.plan import Plan
from blemish.fitting.recalibrate import calibrate
from blemish.fitting.refit import check_images, refit

__all__ = [
    "Plan",
    "calibrate",
    "check_images",
    "fit",
    "refit",
]
