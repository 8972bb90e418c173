"""Boxes around the connected parts of a map above a threshold, and how well they match true ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEAST_AREA = 16
"""Pixels of the smallest part that counts, by default."""

STRIP = 256
"""Rows of a map that are processed together."""

IOU = 0.5
"""Least overlap at which a box matches a true one: the area in both over the area in either."""


@dataclass(frozen=True)
class Box:
    """Rows `top` to `bottom` and columns `left` to `right`, in pixels, the last ones not included.

    Attributes:
        area: pixels in the part itself, at most those in the box.
        peak: the largest value in it.
    """

    top: int
    left: int
    bottom: int
    right: int
    area: int
    peak: float

    def moved(self, down: float, across: float, scale: tuple[float, float]) -> Box:
        """Returns the box after a shift by so many pixels and then a scaling of rows and columns."""
        shifted = (self.top + down, self.left + across, self.bottom + down, self.right + across)
        top, left, bottom, right = (round(side * by) for side, by in zip(shifted, (*scale, *scale), strict=True))
        return Box(top, left, bottom, right, round(self.area * scale[0] * scale[1]), self.peak)

    def overlap(self, other: Box) -> float:
        """Returns the area in both boxes as a share of the area in either."""
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        width = min(self.right, other.right) - max(self.left, other.left)
        both = max(height, 0) * max(width, 0)
        return both / (self._size + other._size - both)

    @property
    def _size(self) -> int:
        return (self.bottom - self.top) * (self.right - self.left)


def find_boxes(values: NDArray[Any], threshold: float, least_area: int = LEAST_AREA) -> list[Box]:
    """Returns boxes around the parts of a map (H, W) above a threshold, the highest peak first.

    Diagonal neighbours belong to one part. The map is processed a strip of rows at a time, which takes little memory.

    Args:
        values: the map, or a mask.
        threshold: values above it are in a part.
        least_area: pixels of the smallest part that counts.
    """
    runs = _runs(values, threshold)
    if not len(runs.rows):
        return []
    parts = _parts(runs)
    order = np.argsort(parts, kind="stable")
    first = np.flatnonzero(np.diff(parts[order], prepend=-1))
    table = zip(
        np.minimum.reduceat(runs.rows[order], first).tolist(),
        np.minimum.reduceat(runs.starts[order], first).tolist(),
        (np.maximum.reduceat(runs.rows[order], first) + 1).tolist(),
        np.maximum.reduceat(runs.ends[order], first).tolist(),
        np.add.reduceat((runs.ends - runs.starts)[order], first).tolist(),
        np.maximum.reduceat(runs.peaks[order], first).tolist(),
        strict=True,
    )
    boxes = [Box(*numbers) for numbers in table]
    return sorted((box for box in boxes if box.area >= least_area), key=lambda box: -box.peak)


def matched(found: Sequence[Box], true: Sequence[Box], iou: float = IOU) -> int:
    """Returns how many found boxes match a true one, each true one once, the highest peaks first."""
    left = list(true)
    count = 0
    for box in sorted(found, key=lambda box: -box.peak):
        best = max(left, key=box.overlap, default=None)
        if best is not None and box.overlap(best) >= iou:
            left.remove(best)
            count += 1
    return count


@dataclass(frozen=True)
class _Runs:
    """Runs of pixels above a threshold: the row, the first column, the one after the last, and the largest value."""

    rows: NDArray[np.int64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    peaks: NDArray[np.float64]


def _runs(values: NDArray[Any], threshold: float) -> _Runs:
    """Returns all runs of a map (H, W), row by row."""
    found: list[list[NDArray[Any]]] = [[np.zeros(0, np.int64)] * 3 + [np.zeros(0)]]
    for top in range(0, len(values), STRIP):
        strip = values[top : top + STRIP]
        above = strip > threshold
        edges = np.diff(np.pad(above.view(np.int8), ((0, 0), (1, 1))), axis=1)
        rows, starts = np.nonzero(edges == 1)
        _, ends = np.nonzero(edges == -1)
        if len(rows):
            lengths = ends - starts
            peaks = np.maximum.reduceat(strip[above], np.cumsum(lengths) - lengths)
            found.append([rows + top, starts, ends, peaks.astype(np.float64)])
    return _Runs(*(np.concatenate(column) for column in zip(*found, strict=True)))


def _parts(runs: _Runs) -> NDArray[np.int64]:
    """Returns the number of the connected part that each run belongs to, from 0."""
    parents = list(range(len(runs.rows)))

    def root(run: int) -> int:
        while parents[run] != run:
            parents[run] = parents[parents[run]]
            run = parents[run]
        return run

    rows, starts, ends = runs.rows.tolist(), runs.starts.tolist(), runs.ends.tolist()
    above = 0
    for run, row in enumerate(rows):
        while rows[above] < row - 1 or (rows[above] == row - 1 and ends[above] < starts[run]):
            above += 1
        touching = above
        while rows[touching] == row - 1 and starts[touching] <= ends[run]:  # corners count
            one, other = root(touching), root(run)
            parents[max(one, other)] = min(one, other)
            touching += 1
    roots = np.array([root(run) for run in range(len(rows))])
    return np.asarray(np.unique(roots, return_inverse=True)[1])
