"""Cells: groups of positions that share the channels of coarse layers.

Each position of the finest grid takes the channels of the nearest position of every layer. Positions that take the same
positions of the coarse layers form a cell. What depends on coarse channels alone is learned and computed once for a
cell, not for every position. With strides 4, 8 and 16 a cell of the coarsest level has 16 positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from blemish.detectors.detector import Features, Grid


@dataclass(frozen=True)
class Level:
    """The cells of the layers up to one grid, from the coarsest on.

    Attributes:
        layers: indices of the layers of this grid; in an embedding the channels of coarser layers come before theirs.
        places: for each of these layers, the index of the position that each cell takes (N,).
        dim: channels of the embedding.
        added: how many of these, the last ones, coarser levels do not have.
        parents: the coarser level's cell in which each cell lies (N,); zeros at the coarsest.
        cells: for each position of the finest grid, its cell (P,).
    """

    layers: list[int]
    places: list[Tensor]
    dim: int
    added: int
    parents: Tensor
    cells: Tensor

    def __len__(self) -> int:
        return len(self.parents)


def finest(grids: Sequence[Grid]) -> tuple[int, int]:
    """Returns height and width of the finest grid."""
    return max((height, width) for _, height, width in grids)


def find_levels(grids: Sequence[Grid], channels: Sequence[Tensor], *, together: bool = False) -> list[Level]:
    """Returns the levels, coarsest first, for layers with these chosen channels; `together` joins all in one level."""
    height, width = finest(grids)
    used = sorted((index for index, chosen in enumerate(channels) if len(chosen)), key=lambda i: grids[i][1:])
    groups = [used] if together else [list(group) for _, group in groupby(used, key=lambda i: grids[i][1:])]
    cells = torch.zeros(height * width, dtype=torch.int64)
    nearest = {index: _nearest(grids[index][1:], (height, width)) for index in used}
    levels: list[Level] = []
    dim = 0
    for group in groups:
        above = cells
        for index in group:
            pairs = cells * (int(nearest[index].max()) + 1) + nearest[index]
            _, cells = torch.unique(pairs, return_inverse=True)
        first = torch.zeros(int(cells.max()) + 1, dtype=torch.int64)
        first[cells] = torch.arange(len(cells))  # any position of a cell stands for all of them
        added = sum(len(channels[index]) for index in group)
        dim += added
        levels.append(Level(group, [nearest[index][first] for index in group], dim, added, above[first], cells))
    return levels


def by_position(features: Features, channels: Sequence[Tensor]) -> list[Tensor]:
    """Returns the chosen channels of each layer, positions first, (P_l, B, C_l)."""
    rows = []
    for layer, chosen in zip(features, channels, strict=True):
        taken = layer if len(chosen) == layer.shape[1] else layer.index_select(1, chosen)
        # A plain transpose of a matrix is several times quicker than a permutation of three axes.
        positions = int(layer.shape[2]) * int(layer.shape[3])
        rows.append(taken.flatten(2).flatten(0, 1).T.reshape(positions, layer.shape[0], len(chosen)))
    return rows


def embedding(above: Tensor, parents: Tensor, rows: Sequence[Tensor], places: Sequence[Tensor]) -> Tensor:
    """Returns the embeddings of cells (N, B, D): those of their parents `above`, then their own layers' channels."""
    own = [layer.index_select(0, index) for layer, index in zip(rows, places, strict=True)]
    return torch.cat([above.index_select(0, parents), *own], dim=2)


def _nearest(grid: tuple[int, int], finest_grid: tuple[int, int]) -> Tensor:
    """Returns for each position of the finest grid the index of the nearest one in a grid, as `interpolate` does."""
    down, across = (torch.arange(fine) * coarse // fine for coarse, fine in zip(grid, finest_grid, strict=True))
    return (down[:, None] * grid[1] + across).flatten()
