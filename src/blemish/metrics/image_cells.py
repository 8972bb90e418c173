"""Counts each image's pixels in a few coarse cells, to compute pixel figures for resampled images.

A coarse cell is a run of fine ones. Runs are as short as possible while at most `CELLS` coarse cells hold a pixel; they
double when another image needs more. The exact figures come from `PixelTally`; these cells are only for intervals.

Memory is bounded: beyond `GROUPS` good and as many anomalous images, an image shares the counts of an earlier one, and
the two are drawn together.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from blemish.metrics.cells import MapCounts
from blemish.metrics.intervals import Figure
from blemish.metrics.ranking import Floats
from blemish.metrics.regions import AUPRO_LIMIT

GROUPS = 1000
"""Groups of good and of anomalous images, at most."""

CELLS = 512
"""Coarse cells that hold a pixel, at most."""

_NUMBERS = 1 << 20
"""Counts of drawn pixels that are in memory at once."""

_Table = NDArray[np.float32]
_Row = tuple[NDArray[np.int64], _Table | Floats]


@dataclass
class ImageCells:
    """Coarse counts of groups of images: cells (k,), and columns (3, k) as in `MapCounts`.

    Attributes:
        good, anomalous: the groups of each class.
        bits: a coarse cell is two to this power fine ones.
        used: coarse cells in which any group has a pixel, ascending.
        images: how many were taken in.
    """

    good: list[_Row] = field(default_factory=list)
    anomalous: list[_Row] = field(default_factory=list)
    bits: int = 0
    used: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    images: int = 0

    def add(self, counts: MapCounts, is_anomalous: bool) -> ImageCells:
        """Takes in the counts of one image, in place."""
        row = _coarser((counts.cells, _columns(counts)), self.bits)
        self.used = np.union1d(self.used, row[0])
        while len(self.used) > CELLS:
            self.bits += 1
            self.used = np.unique(self.used >> 1)
            row = _coarser(row, 1)
            self.good, self.anomalous = ([_coarser(each, 1) for each in rows] for rows in (self.good, self.anomalous))
        rows = self.anomalous if is_anomalous else self.good
        if len(rows) < GROUPS:
            rows.append(row)
        else:
            rows[self.images % GROUPS] = _joined(rows[self.images % GROUPS], row)
        self.images += 1
        return self

    @property
    def classes(self) -> NDArray[np.bool_]:
        """Whether each group is anomalous (g,): good ones first."""
        return np.arange(len(self.good) + len(self.anomalous)) >= len(self.good)

    def figures(self) -> dict[str, Figure]:
        """Returns the AUROC of pixels and AUPRO as figures of the groups' weights; none if there is no ranking."""
        rows = [*self.good, *self.anomalous]
        if not rows:
            return {}
        table = np.zeros((3, len(rows), len(self.used)), np.float32)
        for index, (found, columns) in enumerate(rows):
            table[:, index, np.searchsorted(self.used, found)] = columns
        negatives, positives, regions = table[:, :, ::-1]  # thresholds descend
        if not negatives.any() or not positives.any():
            return {}
        return {
            "auroc": lambda weights: _areas(weights, negatives, positives, 1.0),
            "aupro": lambda weights: _areas(weights, negatives, regions, AUPRO_LIMIT),
        }


def _columns(counts: MapCounts) -> Floats:
    if not counts.has_defect:
        return counts.negatives[None]
    return np.stack([counts.negatives, counts.positives, counts.regions])


def _coarser(row: _Row, bits: int) -> _Row:
    """Returns a row with runs of cells joined; the columns (1 or 3, k) become (3, k)."""
    coarse = row[0] >> bits
    starts = np.concatenate([[0], np.flatnonzero(coarse[1:] != coarse[:-1]) + 1])
    columns = np.zeros((3, len(starts)), np.float32)
    columns[: len(row[1])] = np.add.reduceat(row[1], starts, axis=1)
    return coarse[starts], columns


def _joined(first: _Row, second: _Row) -> _Row:
    cells = np.union1d(first[0], second[0])
    columns = np.zeros((3, len(cells)), np.float32)
    for found, counted in (first, second):
        columns[:, np.searchsorted(cells, found)] += counted
    return cells, columns


def _areas(weights: Floats, negatives: _Table, positives: _Table, limit: float) -> Floats:
    """Returns the area under each draw's ROC curve up to a false positive rate, divided by that rate (r,)."""
    rows = max(1, _NUMBERS // negatives.shape[1])
    blocks = (weights[done : done + rows].astype(np.float32) for done in range(0, len(weights), rows))
    return np.concatenate([_area(_rates(block @ negatives), _rates(block @ positives), limit) for block in blocks])


def _rates(drawn: _Table) -> Floats:
    """Returns shares above each threshold (r, k + 1), from 0 to 1; not numbers where a draw has no such pixel."""
    counts = np.cumsum(drawn, axis=1, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        return np.pad(counts / counts[:, -1:], ((0, 0), (1, 0)))


def _area(false: Floats, true: Floats, limit: float) -> Floats:
    width, rise = np.diff(false, axis=1), np.diff(true, axis=1)
    inside = np.clip(limit - false[:, :-1], 0, width)  # the part of each step before the limit
    slope = np.divide(rise, width, out=np.zeros_like(rise), where=width > 0)
    areas: Floats = (inside * (true[:, :-1] + slope * inside / 2)).sum(1) / limit
    return areas
