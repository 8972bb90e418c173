"""The vectors that SPADE takes from an image's features: one for the whole image, and one for each position."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from blemish.detectors.detector import Features, Grid


@dataclass(frozen=True)
class Pyramid:
    """The choice of layers: one for the whole image, the others for its positions, and the grid of these.

    Attributes:
        coarsest: index of the layer that is averaged over the whole image.
        layers: indices of the layers that are joined at each position.
        channels: of each of these.
        grid: height and width of the common grid.
    """

    coarsest: int
    layers: tuple[int, ...]
    channels: tuple[int, ...]
    grid: tuple[int, int]

    @classmethod
    def of(cls, grids: list[Grid], side: int) -> Pyramid:
        """Returns the pyramid for layers (C, H, W): all but the coarsest are joined, on the grid of the finest.

        If the longer side of the grid exceeds `side`, the grid is shrunk to it in proportion. A single layer serves for
        both.
        """
        coarsest = min(reversed(range(len(grids))), key=lambda layer: grids[layer][1] * grids[layer][2])
        layers = tuple(layer for layer in range(len(grids)) if layer != coarsest) or (coarsest,)
        height, width = max(grids[layer][1:] for layer in layers)
        shrunk = min(1.0, side / max(height, width))
        grid = (max(1, round(height * shrunk)), max(1, round(width * shrunk)))
        return cls(coarsest, layers, tuple(grids[layer][0] for layer in layers), grid)

    @property
    def positions(self) -> int:
        """Positions of the common grid, P."""
        return self.grid[0] * self.grid[1]

    @property
    def dim(self) -> int:
        """Dimension of a position's vector, D: the channels of all joined layers."""
        return sum(self.channels)

    def pooled(self, features: Features) -> Tensor:
        """Returns the coarsest layer's mean over all positions (B, C)."""
        return features[self.coarsest].mean((2, 3))

    def joined(self, features: Features) -> Tensor:
        """Returns the vectors of all positions (B, P, D).

        A layer finer than the grid is averaged over its blocks, a coarser one is interpolated bilinearly.
        """
        layers = [self._on_grid(features[layer]) for layer in self.layers]
        return torch.cat(layers, 1).flatten(2).transpose(1, 2)

    def _on_grid(self, layer: Tensor) -> Tensor:
        """Returns a layer (B, C, H, W) on the common grid (B, C, h, w)."""
        height, width = layer.shape[2:]
        if (height, width) == self.grid:
            return layer
        if height >= self.grid[0] and width >= self.grid[1]:
            return F.adaptive_avg_pool2d(layer, self.grid)
        return F.interpolate(layer, size=self.grid, mode="bilinear", align_corners=False)
