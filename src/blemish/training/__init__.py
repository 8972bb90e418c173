"""The gradient loop that trained detectors share."""

from blemish.training.loop import Step, train
from blemish.training.schedule import Schedule
from blemish.training.share import Noise

__all__ = [
    "Noise",
    "Schedule",
    "Step",
    "train",
]
