"""The gradient loop that trained detectors share."""

from blemish.training.loop import Step, train
from blemish.training.schedule import Schedule

__all__ = [
    "Schedule",
    "Step",
    "train",
]
