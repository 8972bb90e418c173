"""The power mean of a map as its score: between the mean, which finds large faint defects, and the maximum."""

from __future__ import annotations

from torch import Tensor

TINY = 1e-12


def power_mean(maps: Tensor, power: float) -> Tensor:
    """Returns (mean of m^p)^(1/p) over the positions of maps (B, h, w), (B,); maps must not be negative."""
    largest = maps.amax((1, 2), keepdim=True).clamp_min(TINY)  # divided out, so that no power overflows
    mean: Tensor = (maps / largest).pow(power).mean((1, 2)).pow(1 / power) * largest[:, 0, 0]
    return mean
