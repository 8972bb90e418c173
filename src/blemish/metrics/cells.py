"""Counts of the values of one map, by cell; every figure of pixels is computed from these.

Values are counted in cells of their float32 representation, cut to 15 bits of mantissa: neighbours closer than 3 in
100,000 of their value share a cell and count as ties.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blemish.errors import ShapeError
from blemish.metrics.connected import parts_of, runs_above
from blemish.metrics.ranking import Floats, RankCounts

_DROPPED_BITS = 8
_SIGN = np.uint32(1 << 31)


@dataclass(frozen=True)
class MapCounts:
    """Counts of one map's pixels by cell, all (k,).

    Attributes:
        cells: numbers of the cells that hold a pixel, ascending.
        negatives, positives: good and defective pixels.
        regions: the shares of defect regions. A region is a connected component of the mask, diagonals included; its
            pixels together weigh 1.
    """

    cells: NDArray[np.int64]
    negatives: Floats
    positives: Floats
    regions: Floats

    @property
    def has_defect(self) -> bool:
        """Whether a pixel is defective."""
        return bool(self.positives.any())

    def pixels(self) -> RankCounts:
        """Returns the counts of pixels, for figures of this map alone."""
        return RankCounts(values_of(self.cells), self.negatives, self.positives)

    @classmethod
    def count(cls, values: NDArray[np.float32], mask: NDArray[np.bool_]) -> MapCounts:
        """Returns the counts of a map (H, W) and its ground truth (H, W).

        Raises:
            ShapeError: the two differ in shape, or a value is not finite.
        """
        if values.shape != mask.shape:
            raise ShapeError(f"a map of shape {values.shape} and a mask of shape {mask.shape} do not belong together")
        if not np.isfinite(values).all():
            raise ShapeError("map values must be finite; found one that is not")
        cells = cells_of(values)
        start = cells.min()
        cells -= start
        every = np.bincount(cells.ravel())
        used = np.flatnonzero(every > 0)
        positives: Floats = np.zeros(len(used))
        regions: Floats = positives
        if mask.any():
            runs = runs_above(mask, 0)
            inside = np.repeat(parts_of(runs), runs.ends - runs.starts)  # in the order of mask's own pixels
            defective = cells[mask]
            shares = 1 / np.bincount(inside)[inside]
            positives = np.bincount(defective, minlength=len(every))[used].astype(np.float64)
            regions = np.bincount(defective, weights=shares, minlength=len(every))[used].astype(np.float64)
        return cls(used + start, every[used] - positives, positives, regions)


def cells_of(values: NDArray[np.float32]) -> NDArray[np.int64]:
    """Returns cell numbers, in the order of the values: float32 bits, made monotone over the sign."""
    bits = (np.asarray(values, np.float32) + np.float32(0)).view(np.uint32)  # the sum makes one zero of -0 and +0
    ordered = np.where(bits & _SIGN, ~bits, bits | _SIGN)
    return (ordered >> _DROPPED_BITS).astype(np.int64)


def values_of(cells: NDArray[np.int64]) -> Floats:
    """Returns the value at the lower edge of each cell."""
    ordered = (cells << _DROPPED_BITS).astype(np.uint32)
    bits = np.where(ordered & _SIGN, ordered ^ _SIGN, ~ordered)
    return bits.astype(np.uint32).view(np.float32).astype(np.float64)


def grown(start: int, column: Floats, first: int, last: int) -> tuple[int, Floats]:
    """Returns the first cell of a column (k,) and the column, with zeros added so that it holds `first` to `last`."""
    if not len(column):
        return first, np.zeros(last + 1 - first)
    before, after = max(0, start - first), max(0, last + 1 - start - len(column))
    return start - before, np.pad(column, (before, after)) if before or after else column
