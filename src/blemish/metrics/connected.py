"""Connected parts of a map or a mask, by its runs: pixels side by side in a row that exceed a threshold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

STRIP = 256
"""Rows of a map that are processed together."""


@dataclass(frozen=True)
class Runs:
    """Runs of pixels above a threshold: the row, the first column, the one after the last, and the largest value."""

    rows: NDArray[np.int64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    peaks: NDArray[np.float64]


def runs_above(values: NDArray[Any], threshold: float) -> Runs:
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
    return Runs(*(np.concatenate(column) for column in zip(*found, strict=True)))


def parts_of(runs: Runs) -> NDArray[np.int64]:
    """Returns the number of the connected part that each run belongs to, from 0; diagonal neighbours are connected."""
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
