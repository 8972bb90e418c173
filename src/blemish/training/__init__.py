"""The gradient loop that trained detectors share."""

from blemish.training.curve import Epoch, read_epochs
from blemish.training.log import Step
from blemish.training.loop import train
from blemish.training.schedule import Schedule
from blemish.training.share import Noise

__all__ = [
    "Epoch",
    "Noise",
    "Schedule",
    "Step",
    "read_epochs",
    "train",
]
