"""Scores and map statistics of held-out normal images, gathered one by one."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from blemish.calibration.conformal import Calibration


class Held:
    """Scores and map statistics of held-out images, gathered one by one."""

    def __init__(self) -> None:
        self._scores: list[float] = []
        self._medians: list[float] = []
        self._largest: list[float] = []

    def update(self, score: float, values: NDArray[np.float32]) -> Held:
        """One image's score and map (H, W)."""
        self._scores.append(score)
        step = max(1, math.isqrt(values.size >> 20))  # of a large photograph about a million pixels will do
        self._medians.append(float(np.median(values[::step, ::step])))
        self._largest.append(float(values.max()))
        return self

    def __len__(self) -> int:
        return len(self._scores)

    def finish(self, rate: float) -> Calibration:
        """The calibration at a rate.

        The display scale runs from the typical value of a normal map to twice as far as the largest values of normal
        maps, all but the share `rate` of them: what a good part shows stays in the lower half of the colours.
        """
        low = float(np.median(self._medians))
        high = float(np.quantile(self._largest, 1 - rate, method="higher"))
        top = low + 2 * max(high - low, 1e-6 * max(abs(low), 1.0))
        return Calibration(np.sort(np.asarray(self._scores, np.float64)), rate, (low, top))
