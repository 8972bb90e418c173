"""Converts those numbers of a graph to half precision (float16) that lose little by it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

SMALLEST = 1 << 15
"""An array of fewer numbers stays in single precision. Such arrays take little room together. In a network they belong
to the first layers, whose rounding errors would grow in all later layers."""

LOST = 1e-3
"""An array stays in single precision if its relative error (by the norm) would be larger."""


def halved(values: NDArray[Any]) -> NDArray[np.float16] | None:
    """Returns an array in half precision; `None` if it must stay in single precision."""
    if values.dtype != np.float32 or values.size < SMALLEST:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        half = values.astype(np.float16)
        lost = np.linalg.norm(half.astype(np.float32).ravel() - values.ravel())  # not finite if one is too large
    return half if lost <= LOST * np.linalg.norm(values.ravel()) else None
