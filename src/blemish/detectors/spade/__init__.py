"""SPADE: distances from the nearest good images, and from the most similar positions in these."""

from blemish.detectors.spade.spade import SPADE

__all__ = ["SPADE"]
