"""From good images to a model: plan, learn, calibrate."""

from blemish.fitting.fit import fit
from blemish.fitting.other_map import with_map
from blemish.fitting.plan import Plan
from blemish.fitting.recalibrate import calibrate
from blemish.fitting.refit import check_images, refit
from blemish.fitting.suspects import find_suspects

__all__ = [
    "Plan",
    "calibrate",
    "check_images",
    "find_suspects",
    "fit",
    "refit",
    "with_map",
]
