"""Cuts photographs into tiles that overlap, and joins the tiles' maps without a seam."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.errors import SettingError, ShapeError

SMALLEST, LARGEST = 32, 4096


@dataclass(frozen=True)
class Place:
    """A tile's place in a photograph: its first row and column, and the photograph's height and width.

    Attributes:
        is_last: whether it is the last tile of its photograph.
    """

    top: int
    left: int
    height: int
    width: int
    is_last: bool


@dataclass(frozen=True)
class Tiling:
    """Squares of `side` pixels, each sharing at least `overlap` of them with its neighbours, evenly spread.

    Raises:
        SettingError: a side below 32 or above 4096 pixels, or an overlap that is not below it.
    """

    side: int
    overlap: int

    def __post_init__(self) -> None:
        if not SMALLEST <= self.side <= LARGEST:
            raise SettingError(f"tile {self.side} is out of range; give {SMALLEST} to {LARGEST} pixels")
        if not 0 <= self.overlap < self.side:
            raise SettingError(f"overlap {self.overlap} does not fit tiles of {self.side}; give 0 to {self.side - 1}")

    def starts(self, length: int) -> list[int]:
        """Returns the first pixels of the tiles along a side. Raises `ShapeError` if it is shorter than a tile."""
        if length < self.side:
            raise ShapeError(f"{length} pixels are fewer than a tile's {self.side}")
        count = math.ceil((length - self.overlap) / (self.side - self.overlap)) if length > self.side else 1
        return [round(start) for start in np.linspace(0, length - self.side, count).tolist()]

    def count(self, height: int, width: int) -> int:
        """Returns how many tiles a photograph of this size has."""
        return len(self.starts(height)) * len(self.starts(width))

    def places(self, height: int, width: int) -> list[Place]:
        """Returns all tiles, row by row. Raises `ShapeError` if a side is shorter than a tile."""
        corners = [(top, left) for top in self.starts(height) for left in self.starts(width)]
        last = corners[-1]
        return [Place(top, left, height, width, (top, left) == last) for top, left in corners]


@lru_cache(maxsize=64)
def _weights(tiling: Tiling, length: int) -> dict[int, NDArray[np.float32]]:
    """Returns the weights (side,) of the tile at each start; they fall to its edges and add up to 1 at every pixel."""
    inward = np.minimum(np.arange(tiling.side), np.arange(tiling.side)[::-1]) + 0.5
    slope = np.minimum(inward, max(tiling.overlap, 1))
    total = np.zeros(length)
    starts = tiling.starts(length)
    for start in starts:
        total[start : start + tiling.side] += slope
    return {start: (slope / total[start : start + tiling.side]).astype(np.float32) for start in starts}


class Mosaic:
    """The map of a photograph, at its own size, joined from those of its tiles.

    Attributes:
        map: (H, W), complete when all tiles were added.
        score: the largest of the tiles' scores.
    """

    def __init__(self, tiling: Tiling, height: int, width: int) -> None:
        self.tiling = tiling
        self.map = np.zeros((height, width), np.float32)
        self.score = -math.inf

    def add(self, place: Place, score: float, values: NDArray[np.float32]) -> Mosaic:
        """Takes in a tile's score and map (h, w), which is resized to the tile's side; returns the mosaic."""
        side = self.tiling.side
        if values.shape != (side, side):
            values = np.asarray(Image.fromarray(values).resize((side, side), Image.Resampling.BILINEAR))
        down = _weights(self.tiling, place.height)[place.top]
        across = _weights(self.tiling, place.width)[place.left]
        self.map[place.top : place.top + side, place.left : place.left + side] += down[:, None] * across * values
        self.score = max(self.score, score)
        return self
