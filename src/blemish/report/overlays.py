"""Maps as pictures, on the model's fixed colour scale: the same value has the same colour in every picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from blemish.images import Pixels

# The colour map `inferno` (Smith & van der Walt, public domain) at 17 equal steps; straight lines between them stay
# within 7 of 255 of it.
_INFERNO = np.array(
    [
        [0, 0, 4], [11, 7, 36], [33, 12, 74], [61, 9, 101], [87, 16, 110], [113, 25, 110], [138, 34, 106],
        [163, 44, 97], [188, 55, 84], [210, 70, 68], [228, 90, 49], [241, 115, 29], [249, 142, 9], [252, 172, 17],
        [249, 203, 53], [242, 234, 105], [252, 255, 164],
    ]
)  # fmt: skip


def heat_map(values: NDArray[np.float32], display: tuple[float, float]) -> Pixels:
    """A map (H, W) as uint8 colours (H, W, 3): dark at or below the scale's bottom, bright at or above its top."""
    bottom, top = display
    share = np.clip((values - bottom) / (top - bottom), 0, 1)
    steps = np.linspace(0, 1, len(_INFERNO))
    colours = np.stack([np.interp(share, steps, _INFERNO[:, channel]) for channel in range(3)], axis=-1)
    return np.asarray(colours.round(), np.uint8)


def overlay(image: Pixels, values: NDArray[np.float32], display: tuple[float, float], alpha: float = 0.5) -> Pixels:
    """The heat map of `values` (H, W) laid over `image` (H, W, 3), with the share `alpha` of it."""
    mixed = (1 - alpha) * image + alpha * heat_map(values, display)
    return np.asarray(mixed.round(), np.uint8)
