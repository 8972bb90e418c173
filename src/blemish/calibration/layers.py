"""Typical and highest values of the maps of layers, from which each layer gets its own colour scale."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

EVERY = 2
"""Only every second row and column of the maps of layers is used: the maps are smooth, and a fit stays quick."""


def typical_and_highest(
    layers: Iterable[NDArray[np.float32]], count: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Returns the median and the highest value of each layer's map, (B, L) each.

    Args:
        layers: for each layer every `EVERY`-th row and column of its maps, (B, H / 2, W / 2).
        count: of images, B; may be 0.
    """
    typical, highest = [], []
    for maps in layers:
        few = maps[:, ::EVERY, ::EVERY]  # enough for a median
        typical.append(np.median(few.reshape(count, few.shape[1] * few.shape[2]), axis=1))
        highest.append(maps.max(axis=(1, 2)))
    if not typical:
        return np.zeros((count, 0), np.float32), np.zeros((count, 0), np.float32)
    return np.stack(typical, 1), np.stack(highest, 1)
