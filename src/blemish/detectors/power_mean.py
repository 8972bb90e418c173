"""From a map to a score: the power mean, between the mean, which feels faint defects all over, and the maximum."""

from __future__ import annotations

from torch import Tensor

TINY = 1e-12


def power_mean(maps: Tensor, power: float) -> Tensor:
    """(mean of m^p)^(1/p) over the positions of maps (B, h, w) that are nowhere negative, (B,)."""
    largest = maps.amax((1, 2), keepdim=True).clamp_min(TINY)  # taken out, so that no power overflows
    mean: Tensor = (maps / largest).pow(power).mean((1, 2)).pow(1 / power) * largest[:, 0, 0]
    return mean
