"""PaDiM: one Gaussian at every position, over the channels of several layers joined."""

from blemish.detectors.padim.padim import PaDiM

__all__ = ["PaDiM"]
