"""Made-up anomaly maps with ground truth."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Maps = NDArray[np.float32]
Masks = NDArray[np.bool_]


def scene(seed: int = 7, normal: int = 20, anomalous: int = 4) -> tuple[Maps, Masks]:
    """Smooth maps (n, 64, 64), the first of normal images, and masks of defects that stand out more and more."""
    rng = np.random.default_rng(seed)
    maps = 10 + ndimage.gaussian_filter(rng.standard_normal((normal + anomalous, 64, 64)), (0, 1, 1))
    masks = np.zeros(maps.shape, bool)
    for index in range(anomalous):
        masks[normal + index, 20 : 30 + 2 * index, 30:45] = True
        maps[normal + index][masks[normal + index]] += 0.3 * (index + 1)
    return maps.astype(np.float32), masks
