"""The proportions of images, and a model's input that has them.

A proportion is log(height / width): 0 for a square, and of the other sign if the image is transposed. The input has as
many pixels as a square of the size asked for, so that it takes the same time and memory. Its sides are multiples of 32,
the stride of the last level of common networks, so that all of their levels cover the whole image; or, for a
transformer whose patches do not fit into these, multiples of its patches' side.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from blemish.errors import ImageError
from blemish.images.ahead import decode_ahead
from blemish.images.geometry import Geometry
from blemish.images.reading import read_proportion
from blemish.images.remote import Location
from blemish.images.tiling import LARGEST, SMALLEST

STEP = 32
"""The sides are multiples of it, by default."""

WORTH = 0.75
"""A shape other than the square is used if its distortion is less than this share of the square's.

On sets whose images are alike the share is under a half. On Magnetic Tile Defects, with ratios from 0.4 to 2.8 around
1.2, it is 0.95, and the square is up to 0.4 points of image AUROC better.
"""

TOGETHER = 64
"""Headers that a thread reads at a time."""


def in_proportion(geometry: Geometry, paths: Sequence[Location], step: int = STEP) -> Geometry:
    """Returns a geometry with as many pixels as this square one, in the images' proportions; see `input_shape`."""
    height, width = input_shape(geometry.height, read_proportions(paths), step)
    return replace(geometry, height=height, width=width)


def read_proportions(paths: Sequence[Location]) -> list[float]:
    """Returns the proportions of images by their headers; those that cannot be opened are left out."""

    def read(some: Sequence[Location]) -> list[float]:
        found = []
        for path in some:
            with suppress(ImageError):
                found.append(read_proportion(path))
        return found

    parts = decode_ahead(read, (paths[start : start + TOGETHER] for start in range(0, len(paths), TOGETHER)))
    return [value for part in parts if isinstance(part, list) for value in part]


def input_shape(size: int, proportions: Sequence[float], step: int = STEP) -> tuple[int, int]:
    """Returns height and width of the input: the shape nearest to the median proportion, or a square.

    It is a square if the images vary so much that no single shape suits them. The measure is the distortion by
    resizing, the mean of |log| of how much height is stretched relative to width; it must be clearly less than that of
    a square.

    Args:
        size: side of the square with as many pixels, 32 to 4096.
        proportions: of the images; without any, it is a square.
        step: the sides are multiples of it.
    """
    square = nearest_shape(size, 0.0, step)
    if not proportions:
        return square
    shape = nearest_shape(size, statistics.median(proportions), step)
    return shape if _distortion(shape, proportions) < WORTH * _distortion(square, proportions) else square


def nearest_shape(size: int, proportion: float, step: int = STEP) -> tuple[int, int]:
    """Returns the height and width, multiples of `step`, nearest to area and proportion together.

    Each side is rounded by itself, to the multiple whose quotient with the exact side is nearest to 1. This minimises
    the sum of the squared errors of log(area) and log(height / width), since these are the sum and the difference of
    the errors of the sides' logarithms. A proportion so extreme that a side would leave the range from 32 to 4096 is
    limited to the last one within it.

    Args:
        size: side of the square with as many pixels, 32 to 4096.
        proportion: of an image.
        step: of the sides.
    """
    most = 2 * min(math.log(size / SMALLEST), math.log(LARGEST / size))
    half = max(-most, min(most, proportion)) / 2
    return _nearest(math.log(size) + half, step), _nearest(math.log(size) - half, step)


def _nearest(logarithm: float, step: int) -> int:
    """Returns the multiple of `step`, within 32 to 4096, whose logarithm is nearest."""
    below = max(math.ceil(SMALLEST / step) * step, math.floor(math.exp(logarithm) / step) * step)
    above = min(below + step, LARGEST // step * step)
    return below if logarithm - math.log(below) <= math.log(above) - logarithm else above


def _distortion(shape: tuple[int, int], proportions: Sequence[float]) -> float:
    """Returns the mean of |log| of how much height is stretched relative to width."""
    own = math.log(shape[0]) - math.log(shape[1])
    return math.fsum(abs(value - own) for value in proportions) / len(proportions)
