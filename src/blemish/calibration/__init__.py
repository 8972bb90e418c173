"""Makes thresholds with a stated false-alarm rate, and p-values, from scores of good images."""

from blemish.calibration.conformal import Calibration, check_rate, default_box_rate
from blemish.calibration.cross_fit import assign_folds
from blemish.calibration.gathered import Gathered
from blemish.calibration.hold_out import DEFAULT_RATE, DEFAULT_SHARE, held_out_count, lowest_rate, promised_rate
from blemish.calibration.layers import EVERY, typical_and_highest

__all__ = [
    "DEFAULT_RATE",
    "DEFAULT_SHARE",
    "EVERY",
    "Calibration",
    "Gathered",
    "assign_folds",
    "check_rate",
    "default_box_rate",
    "held_out_count",
    "lowest_rate",
    "promised_rate",
    "typical_and_highest",
]
