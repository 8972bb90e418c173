"""Which of the images that calibrate look anomalous themselves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MARGIN = 3.5
"""How many standard deviations above the median a logarithm of a score is suspicious."""

ERROR = 1.65
"""The standard error of the spread of n scores, as a share of it, times the root of n; two such errors are allowed."""

FEW = 200
"""The spread of n scores is widened by the share FEW / n^2 besides: that of fewer than about 20 may be anything."""


def suspicious(scores: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Returns which scores (n,) are far above the others.

    The logarithms of good images' scores are nearly normal. Their median and quartiles are moved little by bad images,
    whose scores are high and few. The standard deviation is taken from the farther quartile, since on varied images
    good scores reach farther up than down. A score is suspicious if its logarithm lies `MARGIN` standard deviations
    above the median; few scores tell the standard deviation less well, so more is then asked. Of scores whose
    logarithms are normal, one in 400 or fewer is suspicious, and of 50 scores or more one in 4,000; real good images
    have longer tails, and `benchmarks/RESULTS.md` has how many of them are.
    """
    if len(scores) < 3:
        return np.zeros(len(scores), bool)
    logs = np.log(np.maximum(scores, np.finfo(np.float64).tiny))
    middle = np.median(logs)
    below = middle - np.sort(logs)[: len(logs) // 2]  # the middle one of an odd number says nothing of the spread
    above = np.quantile(logs, 0.75) - middle
    spread = max(np.median(below), above) / 0.6745  # a quartile lies 0.6745 standard deviations from the median
    spread *= 1 + 2 * ERROR / len(scores) ** 0.5 + FEW / len(scores) ** 2
    return np.asarray(logs > middle + MARGIN * max(spread, 1e-6))
