"""What the maps of layers are like on one image: from these numbers each layer has a colour scale of its own."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

STEP = 4
"""A typical value is the median of every so many rows and columns: the maps are smooth, and it takes a tenth of the
time."""


def typical_and_highest(
    layers: Iterable[NDArray[np.float32]], count: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Returns the typical and the highest value of each layer's map, (B, L) each.

    Args:
        layers: the maps (B, H, W) of each layer.
        count: of images, B.
    """
    typical, highest = [], []
    for maps in layers:
        typical.append(np.median(maps[:, ::STEP, ::STEP], axis=(1, 2)))
        highest.append(maps.max(axis=(1, 2)))
    if not typical:
        return np.zeros((count, 0), np.float32), np.zeros((count, 0), np.float32)
    return np.stack(typical, 1), np.stack(highest, 1)
