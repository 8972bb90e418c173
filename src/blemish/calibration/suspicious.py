"""Finds images that look anomalous themselves among those that calibrate."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MARGIN = 3.5
"""A score is suspicious if its logarithm lies this many standard deviations above the median."""

ERROR = 1.65
"""The standard error of the spread of n scores is this share of it, divided by the root of n; two such are allowed."""

FEW = 200
"""The spread of n scores is also widened by the share FEW / n^2, since it is very uncertain below about 20 scores."""


def suspicious(scores: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Returns which scores (n,) are far above the others.

    The logarithms of good images' scores are nearly normally distributed. A few anomalous images with high scores
    hardly change their median and quartiles. The standard deviation is taken from the quartile that is farther from the
    median, since on varied images good scores reach farther up than down. A score is suspicious if its logarithm lies
    `MARGIN` standard deviations above the median; with few scores the margin is larger, since the standard deviation is
    less certain. If the logarithms are normally distributed, at most one score in 400 is suspicious, and one in 4,000
    of 50 scores or more; real good images have longer tails, and `benchmarks/RESULTS.md` has the counts.
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
