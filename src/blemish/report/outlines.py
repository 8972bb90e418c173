"""Outlines of masks and of parts of maps, as SVG paths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Values = TypeVar("Values", NDArray[np.bool_], NDArray[np.float32])

FINEST = 256
"""Cells along the longer side of an outline's grid, at most."""


@dataclass(frozen=True)
class Outline:
    """The outline of the marked parts of a mask.

    Attributes:
        path: for SVG, in cells of the grid; empty if nothing is marked.
        grid: cells across and down.
    """

    path: str
    grid: tuple[int, int]


def outline(mask: NDArray[np.bool_], finest: int = FINEST) -> Outline:
    """Returns the outline of a mask (H, W). A cell of the grid is marked if any of its pixels is marked."""
    mask = block_largest(mask, finest)
    height, width = mask.shape
    padded = np.pad(mask.view(np.int8), 1)
    along = _runs(padded[1:, 1:-1] != padded[:-1, 1:-1])  # edges between rows
    down = _runs((padded[1:-1, 1:] != padded[1:-1, :-1]).T)
    parts = [f"M{start} {place}h{length}" for place, start, length in along]
    parts += [f"M{place} {start}v{length}" for place, start, length in down]
    return Outline("".join(parts), (width, height))


def block_largest(values: Values, longest: int) -> Values:
    """Returns a map or a mask (H, W) with at most `longest` cells a side; each is the largest value of its block."""
    for axis, side in enumerate(values.shape):
        if side > longest:
            starts = np.arange(longest) * side // longest
            values = np.asarray(np.maximum.reduceat(values, starts, axis=axis))
    return values


def _runs(marked: NDArray[np.bool_]) -> list[tuple[int, int, int]]:
    """Returns row, start and length of each run of marked cells, row by row."""
    edges = np.diff(np.pad(marked.view(np.int8), ((0, 0), (1, 1))), axis=1)
    rows, starts = np.nonzero(edges == 1)
    _, ends = np.nonzero(edges == -1)
    return list(zip(rows.tolist(), starts.tolist(), (ends - starts).tolist(), strict=True))
