"""Pixels and defect regions: counts in bounded memory for any number of maps, and AUPRO.

Values are counted in cells of their float32 representation, cut to 15 bits of mantissa: neighbours closer than 3 in
100,000 of their value share a cell and count as ties. `tie_error` bounds what that can change in an AUROC; in practice
it changes the seventh digit.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from blemish.errors import ShapeError
from blemish.metrics.ranking import Floats, RankCounts, auroc, average_precision, partial_area, roc_curve

_DROPPED_BITS = 8
_SIGN = np.uint32(1 << 31)
AUPRO_LIMIT = 0.3


@dataclass
class PixelTally:
    """Counts of pixels by the cell of their value: normal ones, defective ones, and shares of defect regions.

    `start` is the first cell; the three columns (k,) grow to the range of values seen. A region is a connected
    component of a mask, diagonals included; its pixels together weigh 1.
    """

    start: int = 0
    negatives: Floats = field(default_factory=lambda: np.zeros(0))
    positives: Floats = field(default_factory=lambda: np.zeros(0))
    regions: Floats = field(default_factory=lambda: np.zeros(0))

    def update(self, values: NDArray[np.float32], mask: NDArray[np.bool_]) -> PixelTally:
        """Takes in one map (H, W) and its ground truth (H, W), in place.

        Raises:
            ShapeError: the two differ in shape, or a value is not finite.
        """
        from scipy import ndimage

        if values.shape != mask.shape:
            raise ShapeError(f"a map of shape {values.shape} and a mask of shape {mask.shape} do not belong together")
        if not np.isfinite(values).all():
            raise ShapeError("map values must be finite; found one that is not")
        cells = _cells(values)
        self._cover(int(cells.min()), int(cells.max()))
        cells -= self.start
        size = len(self.negatives)
        if mask.any():
            labels, _ = ndimage.label(mask, structure=np.ones((3, 3)))
            inside = labels[mask]
            shares = 1 / np.bincount(inside)[inside]
            self.positives += np.bincount(cells[mask], minlength=size)
            self.regions += np.bincount(cells[mask], weights=shares, minlength=size)
            cells = cells[~mask]
        self.negatives += np.bincount(cells.ravel(), minlength=size)
        return self

    def merge(self, other: PixelTally) -> PixelTally:
        """Returns the counts of both together."""
        merged = PixelTally(self.start, self.negatives.copy(), self.positives.copy(), self.regions.copy())
        if len(other.negatives):
            merged._cover(other.start, other.start + len(other.negatives) - 1)
            place = slice(other.start - merged.start, other.start - merged.start + len(other.negatives))
            merged.negatives[place] += other.negatives
            merged.positives[place] += other.positives
            merged.regions[place] += other.regions
        return merged

    def pixels(self) -> RankCounts:
        """Returns the counts of pixels, each weighing 1."""
        return self._counts(self.positives)

    def tie_error(self) -> float:
        """Returns how far the AUROC can be from that of unrounded values, at most."""
        pairs = self.negatives.sum() * self.positives.sum()
        return float((self.negatives * self.positives).sum() / 2 / pairs) if pairs else 0.0

    def figures(self) -> dict[str, float | None]:
        """Returns AUROC and AUPR of pixels, and AUPRO: mean overlap of regions by false positive rate, up to 0.3."""
        return {
            "auroc": auroc(self.pixels()),
            "aupr": average_precision(self.pixels()),
            "aupro": partial_area(self._counts(self.regions), AUPRO_LIMIT),
        }

    def overlap_curve(self, limit: float = AUPRO_LIMIT) -> tuple[Floats, Floats] | None:
        """Returns false positive rates up to `limit` and the mean overlap of regions at each; `None` if undefined."""
        counts = self._counts(self.regions)
        if not counts.is_ranking:
            return None
        false, overlap = roc_curve(counts)
        inside = int(np.searchsorted(false, limit, side="right"))
        return np.append(false[:inside], limit), np.append(overlap[:inside], np.interp(limit, false, overlap))

    def _counts(self, positives: Floats) -> RankCounts:
        used = np.flatnonzero((self.negatives > 0) | (positives > 0))
        return RankCounts(_values(used + self.start), self.negatives[used], positives[used])

    def _cover(self, first: int, last: int) -> None:
        """Grows the columns to hold the cells from `first` to `last`."""
        if not len(self.negatives):
            self.start = first
        before = max(0, self.start - first)
        after = max(0, last + 1 - self.start - len(self.negatives))
        if before or after:
            self.start -= before
            self.negatives, self.positives, self.regions = (
                np.pad(column, (before, after)) for column in (self.negatives, self.positives, self.regions)
            )


def _cells(values: NDArray[np.float32]) -> NDArray[np.int64]:
    """Returns cell numbers, in the order of the values: float32 bits, made monotone over the sign."""
    bits = (np.asarray(values, np.float32) + np.float32(0)).view(np.uint32)  # the sum makes one zero of -0 and +0
    ordered = np.where(bits & _SIGN, ~bits, bits | _SIGN)
    return (ordered >> _DROPPED_BITS).astype(np.int64)


def _values(cells: NDArray[np.int64]) -> Floats:
    """Returns the value at the lower edge of each cell."""
    ordered = (cells << _DROPPED_BITS).astype(np.uint32)
    bits = np.where(ordered & _SIGN, ordered ^ _SIGN, ~ordered)
    return bits.astype(np.uint32).view(np.float32).astype(np.float64)
