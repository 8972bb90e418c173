"""An image and its map at one size, for display."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from blemish.images import Geometry, ImageLike, Pixels, read_image, read_proportion
from blemish.images.tiling import SMALLEST
from blemish.maps.pictures import resized


def view(
    source: ImageLike, values: NDArray[np.float32], geometry: Geometry, longest: int
) -> tuple[Pixels, NDArray[np.float32]]:
    """Returns the image (h, w, 3) and its map (h, w) in the image's proportions.

    Both have about as many pixels as the model's input. A photograph in tiles keeps its own size, or is shrunk; its map
    then takes the largest value of each block, so that a small peak stays visible.

    Args:
        source: the image: a file, its bytes, or an array.
        values: its map.
        geometry: the model's.
        longest: pixels of the longer side of a photograph, at most.

    Raises:
        ImageError: the image can no longer be read.
    """
    if geometry.tile is None:
        shape = geometry.displayed(read_proportion(source))
        return resized(read_image(source, geometry), shape), resized(values, shape)
    values = shrunk(values, longest)
    return read_image(source, Geometry(*values.shape)), values


def shrunk(values: NDArray[np.float32], longest: int) -> NDArray[np.float32]:
    """Returns a map (H, W) with at most so many pixels on its longer side, each the largest value of its block."""
    scale = min(1.0, longest / max(values.shape))
    for axis, side in enumerate(values.shape):
        left = max(min(SMALLEST, side), round(side * scale))
        values = np.maximum.reduceat(values, np.arange(left) * side // left, axis=axis)
    return values
