"""The gradient loop that trained detectors share."""

from blemish.training.loop import Schedule, Step, train

__all__ = ["Schedule", "Step", "train"]
