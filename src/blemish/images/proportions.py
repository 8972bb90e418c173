"""The proportions of images, and a model's input that has them.

A proportion is log(height / width): 0 for a square, and of the other sign if the image is transposed. The input has as
many pixels as a square of the size asked for, so that it takes the same time and memory. Its sides are multiples of 32,
the stride of the last level of common networks, so that all of their levels cover the whole image.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from blemish.errors import ImageError
from blemish.images.ahead import decode_ahead
from blemish.images.geometry import Geometry
from blemish.images.reading import read_proportion
from blemish.images.tiling import LARGEST, SMALLEST

STEP = 32
"""The sides are multiples of it."""

TOGETHER = 64
"""Headers that a thread reads at a time."""


def in_proportion(geometry: Geometry, paths: Sequence[Path]) -> Geometry:
    """Returns a geometry with as many pixels as this square one, in the median proportion of the images."""
    height, width = input_shape(geometry.height, median_proportion(read_proportions(paths)))
    return replace(geometry, height=height, width=width)


def median_proportion(proportions: Iterable[float]) -> float:
    """Returns the median, or 0 if there are none; of an even number it is the mean of the two in the middle."""
    found = list(proportions)
    return statistics.median(found) if found else 0.0


def read_proportions(paths: Sequence[Path]) -> Iterator[float]:
    """Yields the proportions of images by their headers; those that cannot be opened are left out."""

    def read(some: Sequence[Path]) -> list[float]:
        found = []
        for path in some:
            with suppress(ImageError):
                found.append(read_proportion(path))
        return found

    for found in decode_ahead(read, (paths[start : start + TOGETHER] for start in range(0, len(paths), TOGETHER))):
        yield from found if isinstance(found, list) else []


def input_shape(size: int, proportion: float) -> tuple[int, int]:
    """Returns height and width of the input: the multiples of 32 nearest to area and proportion together.

    Each side is rounded by itself, to the multiple whose quotient with the exact side is nearest to 1. This makes the
    sum of the squares least of what log(area) and log(height / width) are wrong by, since these are the sum and the
    difference of what the logarithms of the sides are wrong by. A proportion so extreme that a side would leave 32 to
    4096 is taken as the last at which none does.

    Args:
        size: side of the square with as many pixels, 32 to 4096.
        proportion: of the images.
    """
    most = 2 * min(math.log(size / SMALLEST), math.log(LARGEST / size))
    half = max(-most, min(most, proportion)) / 2
    return _nearest(math.log(size) + half), _nearest(math.log(size) - half)


def _nearest(logarithm: float) -> int:
    """Returns the multiple of 32, from 32 on, whose logarithm is nearest."""
    below = max(STEP, math.floor(math.exp(logarithm) / STEP) * STEP)
    above = below + STEP
    return below if logarithm - math.log(below) <= math.log(above) - logarithm else above
