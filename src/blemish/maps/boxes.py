"""Boxes around the connected parts of a map above a threshold, and how well they match true ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.metrics.connected import Runs, parts_of, runs_above

LEAST_AREA = 16
"""Pixels of the smallest part that gets a box, by default."""

SHRUNK = 0.4
"""A box encloses what exceeds this share of its part's peak, since the network's field of view blurs the map."""


@dataclass(frozen=True)
class Box:
    """Rows `top` to `bottom` and columns `left` to `right`, in pixels, the last ones not included.

    Attributes:
        area: pixels in what the box encloses, at most those in the box.
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


def find_boxes(
    values: NDArray[Any], threshold: float, least_area: int = LEAST_AREA, typical: float | None = None
) -> list[Box]:
    """Returns boxes around the parts of a map (H, W) above a threshold, the highest peak first.

    Diagonal neighbours belong to one part. The map is processed a strip of rows at a time, which takes little memory.

    Args:
        values: the map, or a mask.
        threshold: values above it are in a part.
        least_area: pixels of the smallest part that gets a box.
        typical: the map's value on good images; a box then encloses only what exceeds `typical` by the share `SHRUNK`
            of the way to its part's peak, if that is above the threshold. By default it encloses the whole part.
    """
    if not values.size or values.max() <= threshold:  # as on most good images, which is seen at once
        return []
    runs = runs_above(values, threshold)
    if not len(runs.rows):
        return []
    parts = parts_of(runs)
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
    boxes = {part: box for part, numbers in enumerate(table) if (box := Box(*numbers)).area >= least_area}
    if typical is not None:
        for part, box in boxes.items():
            level = typical + SHRUNK * (box.peak - typical)
            if level > threshold:
                boxes[part] = _shrunk(values, box, level, runs, parts == part)
    return sorted(boxes.values(), key=lambda box: -box.peak)


def _shrunk(values: NDArray[Any], box: Box, level: float, runs: Runs, mine: NDArray[np.bool_]) -> Box:
    """Returns the box around what exceeds a higher level in the part whose runs are `mine`."""
    inside = runs_above(values[box.top : box.bottom, box.left : box.right], level)
    rows, starts, ends = inside.rows + box.top, inside.starts + box.left, inside.ends + box.left
    # Each of these runs lies in one of the runs above the threshold: the last one that does not start after it.
    width = values.shape[1]
    kept = mine[np.searchsorted(runs.rows * width + runs.starts, rows * width + starts, side="right") - 1]
    if not kept.any():  # the peak is below what is typical
        return box
    top, left, bottom, right = rows[kept].min(), starts[kept].min(), rows[kept].max() + 1, ends[kept].max()
    return Box(int(top), int(left), int(bottom), int(right), int((ends - starts)[kept].sum()), box.peak)


def counted(boxes: Sequence[Box]) -> str:
    """Returns `no box`, `1 box`, `2 boxes` …"""
    return {0: "no box", 1: "1 box"}.get(len(boxes), f"{len(boxes)} boxes")


def matched(found: Sequence[Box], true: Sequence[Box], iou: float) -> int:
    """Returns how many found boxes match a true one, each true one once, the highest peaks first.

    Args:
        found, true: boxes in the same pixels.
        iou: smallest overlap at which two boxes match: the area in both divided by the area in either.
    """
    left = list(true)
    count = 0
    for box in sorted(found, key=lambda box: -box.peak):
        best = max(left, key=box.overlap, default=None)
        if best is not None and box.overlap(best) >= iou:
            left.remove(best)
            count += 1
    return count
