"""Which of the images that calibrate look anomalous themselves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MARGIN = 4.0
"""How many standard deviations above the median a logarithm of a score is suspicious."""


def suspicious(scores: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Returns which scores (n,) are far above the others.

    The logarithms of good images' scores are nearly normal. Their median and the spread below it are hardly moved by
    bad images, whose scores are high; a score is suspicious if its logarithm is `MARGIN` standard deviations above.
    """
    if len(scores) < 3:
        return np.zeros(len(scores), bool)
    logs = np.log(np.maximum(scores, np.finfo(np.float64).tiny))
    middle = np.median(logs)
    below = middle - logs[logs <= middle]
    spread = np.median(below) / 0.6745  # the median of a half-normal distance is 0.6745 standard deviations
    return np.asarray(logs > middle + MARGIN * max(spread, 1e-6))
