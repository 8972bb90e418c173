"""Which numbers of a graph can be kept in half precision (float16), whatever the format."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

SMALLEST = 1 << 15
"""An array of fewer numbers stays in single precision. Together such arrays take little room, and in a network they are
those of the first layers, whose rounding all later ones would add to."""

LOST = 1e-3
"""An array stays in single precision if more than this share of its length would be lost."""


def halved(values: NDArray[Any]) -> NDArray[np.float16] | None:
    """Returns an array in half precision; `None` if it has to stay as it is."""
    if values.dtype != np.float32 or values.size < SMALLEST:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        half = values.astype(np.float16)
        lost = np.linalg.norm(half.astype(np.float32).ravel() - values.ravel())  # not finite if one is too large
    return half if lost <= LOST * np.linalg.norm(values.ravel()) else None
