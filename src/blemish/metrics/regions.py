"""Pixels and defect regions of many maps: counts in bounded memory, and AUPRO.

Values are counted in the cells of `cells.py`. `tie_error` bounds the error that this causes in an AUROC; in practice it
changes the seventh digit.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from blemish.metrics.cells import MapCounts, grown, values_of
from blemish.metrics.decisions import f1_max
from blemish.metrics.ranking import Floats, RankCounts, auroc, average_precision, partial_area, roc_curve

AUPRO_LIMIT = 0.3


@dataclass
class PixelTally:
    """Counts of pixels by the cell of their value: good ones, defective ones, and shares of defect regions.

    `start` is the first cell; the three columns (k,) grow to the range of values seen.
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
        return self.add(MapCounts.count(values, mask))

    def add(self, counts: MapCounts) -> PixelTally:
        """Takes in the counts of one map, in place."""
        self._cover(int(counts.cells[0]), int(counts.cells[-1]))
        place = counts.cells - self.start
        self.negatives[place] += counts.negatives
        if counts.has_defect:
            self.positives[place] += counts.positives
            self.regions[place] += counts.regions
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
        """Returns the largest possible difference of the AUROC from that of unrounded values."""
        pairs = self.negatives.sum() * self.positives.sum()
        return float((self.negatives * self.positives).sum() / 2 / pairs) if pairs else 0.0

    def figures(self) -> dict[str, float | None]:
        """Returns AUROC, AUPR and best F1 of pixels, and AUPRO: overlap of regions by false positive rate, to 0.3."""
        pixels = self.pixels()
        return {
            "auroc": auroc(pixels),
            "aupr": average_precision(pixels),
            "f1_max": f1_max(pixels),
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
        return RankCounts(values_of(used + self.start), self.negatives[used], positives[used])

    def _cover(self, first: int, last: int) -> None:
        """Grows the columns to hold the cells from `first` to `last`."""
        start = self.start
        self.start, self.negatives = grown(start, self.negatives, first, last)
        _, self.positives = grown(start, self.positives, first, last)
        _, self.regions = grown(start, self.regions, first, last)
