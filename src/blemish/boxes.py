"""Where in an image: boxes around the connected parts of a map above a threshold, and how well they meet true ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEAST_AREA = 16
"""Pixels of the model's input that a part must have to count, by default."""

IOU = 0.5
"""Overlap from which a box is the true one, as a share of the area of both together."""


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
        """The same after a shift by so many pixels, and then a scaling of rows and columns."""
        shifted = (self.top + down, self.left + across, self.bottom + down, self.right + across)
        top, left, bottom, right = (round(side * by) for side, by in zip(shifted, (*scale, *scale), strict=True))
        return Box(top, left, bottom, right, round(self.area * scale[0] * scale[1]), self.peak)

    def overlap(self, other: Box) -> float:
        """Area in both as a share of the area in either."""
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        width = min(self.right, other.right) - max(self.left, other.left)
        both = max(height, 0) * max(width, 0)
        return both / (self._size + other._size - both)

    @property
    def _size(self) -> int:
        return (self.bottom - self.top) * (self.right - self.left)


def find_boxes(values: NDArray[np.float32], threshold: float, least_area: int = LEAST_AREA) -> list[Box]:
    """Boxes of the parts of a map (H, W) above a threshold, the highest peak first; diagonal neighbours are one part.

    Args:
        values: the map.
        threshold: values above it are in a part.
        least_area: pixels of the smallest part that counts.
    """
    labels = _parts(values > threshold)
    rows, columns = np.nonzero(labels)
    if not len(rows):
        return []
    order = np.argsort(labels[rows, columns], kind="stable")
    rows, columns = rows[order], columns[order]
    starts = np.flatnonzero(np.diff(labels[rows, columns], prepend=0))
    table = zip(
        np.minimum.reduceat(rows, starts).tolist(),
        np.minimum.reduceat(columns, starts).tolist(),
        (np.maximum.reduceat(rows, starts) + 1).tolist(),
        (np.maximum.reduceat(columns, starts) + 1).tolist(),
        np.diff(starts, append=len(rows)).tolist(),
        np.maximum.reduceat(values[rows, columns], starts).tolist(),
        strict=True,
    )
    boxes = [Box(*numbers) for numbers in table]
    return sorted((box for box in boxes if box.area >= least_area), key=lambda box: -box.peak)


def matched(found: Sequence[Box], true: Sequence[Box], iou: float = IOU) -> int:
    """How many found boxes meet a true one, each true one once, the highest peaks first."""
    left = list(true)
    count = 0
    for box in sorted(found, key=lambda box: -box.peak):
        best = max(left, key=box.overlap, default=None)
        if best is not None and box.overlap(best) >= iou:
            left.remove(best)
            count += 1
    return count


def _parts(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Connected parts of a mask (H, W), numbered from 1; by runs of rows, so that it needs numpy alone."""
    labels = np.zeros(mask.shape, np.int64)
    if not mask.any():
        return labels
    edges = np.diff(np.pad(mask.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    rows, starts = np.nonzero(edges == 1)
    _, ends = np.nonzero(edges == -1)
    parents = list(range(len(rows)))

    def root(run: int) -> int:
        while parents[run] != run:
            parents[run] = parents[parents[run]]
            run = parents[run]
        return run

    first = np.searchsorted(rows, np.arange(mask.shape[0] + 1))
    for row in range(1, mask.shape[0]):
        above, run = int(first[row - 1]), int(first[row])
        while above < first[row] and run < first[row + 1]:
            if starts[above] <= ends[run] and starts[run] <= ends[above]:  # they touch, at a corner at least
                parents[max(root(above), root(run))] = min(root(above), root(run))
            if ends[above] < ends[run]:
                above += 1
            else:
                run += 1
    roots = [root(run) for run in range(len(rows))]
    numbers = {run: number for number, run in enumerate(sorted(set(roots)), 1)}
    for line, start, end, run in zip(rows, starts, ends, roots, strict=True):
        labels[line, start:end] = numbers[run]
    return labels
