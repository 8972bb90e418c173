"""The module that scores by FRE: each layer's residual, and one map and one score of all of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blemish.detectors.detector import Grid
from blemish.detectors.head import Head, Part, fixed, to_grid
from blemish.detectors.power_mean import power_mean
from blemish.detectors.scoring import resizing_matrix
from blemish.statistics import Principal

JOINS = ("product", "logs")

FLOOR = 1e-3
"""This share of the layer's mean variance at a position is added to its map before the logarithm. Without it, where all
good images are the same to the last bit, the map would be zero around that position."""

TINY = 1e-12
"""The smallest variance by which is divided."""


class Projection(nn.Module):
    """Returns the residuals of vectors (B, D) outside a principal subspace: (u - m) - B B^T (u - m), FRE's eq. 2."""

    def __init__(self, principal: Principal) -> None:
        super().__init__()
        rank = len(principal.mixing)
        used = len(principal.rows) if bool(principal.mixing[:, rank:].any()) else rank  # after a truncation, the first
        rows, mixing = principal.rows[:used], principal.mixing[:, :used]
        self.mean, self.rows, self.mixing = map(fixed, (principal.mean, rows, mixing))

    def forward(self, vectors: Tensor) -> Tensor:
        centred: Tensor = vectors - self.mean
        if not len(self.mixing):  # a layer that never varies; some engines do not fill the result of an empty product
            return centred
        # The long rows (k, D) are used in both directions and stored once.
        components = F.linear(F.linear(centred, self.rows), self.mixing)  # (B, r)
        residual: Tensor = centred - components @ self.mixing @ self.rows
        return residual


class SharedProjection(nn.Module):
    """Returns the residuals of vectors (B, C · P) outside a subspace of C dimensions that all P positions share."""

    def __init__(self, mean: Tensor, basis: Tensor) -> None:
        super().__init__()
        self.mean, self.basis = fixed(mean[:, None]), fixed(basis)  # (C, 1), (r, C)

    def forward(self, vectors: Tensor) -> Tensor:
        centred: Tensor = torch.unflatten(vectors, 1, (len(self.mean), -1)) - self.mean  # (B, C, P)
        if not len(self.basis):
            return centred.flatten(1)
        return (centred - self.basis.T @ (self.basis @ centred)).flatten(1)


class FREHead(Head):
    """Squared residuals of each layer, joined by their weighted geometric mean (eq. 3).

    Args:
        residuals: one module for each layer, from vectors (B, D) to what is not reconstructed of them (B, D).
        grids: of the layers.
        variances: of each layer, their mean variance at a position.
        weights: of each layer in the geometric mean.
        power: of the power mean of the score.
        join: `product` or `logs`, as in `FRE`.
    """

    adds_up = False

    def __init__(
        self,
        residuals: Sequence[nn.Module],
        grids: list[Grid],
        variances: Sequence[float],
        weights: Sequence[float],
        power: float,
        join: str,
    ) -> None:
        super().__init__()
        self.weights = [weight / sum(weights) for weight in weights]
        self.grid = max((height, width) for _, height, width in grids)
        self.grids = [(height, width) for _, height, width in grids]
        self.positions = self.grid[0] * self.grid[1]
        self.power, self.join = power, join
        self.residuals = nn.ModuleList(residuals)
        self.parts = [Part((index,)) for index in range(len(grids))]
        self.floors = [max(FLOOR * own, TINY) for own in variances]
        self._resize("bilinear")

    def enlarge(self, shape: tuple[int, int], interpolation: str) -> None:
        if self.join == "product" and len(self.grids) > 1:
            self.grid = shape
            self._resize(interpolation)

    def _resize(self, interpolation: str) -> None:
        """Sets the matrices that bring each layer's map to the head's grid."""
        for index, grid in enumerate(self.grids):
            sides = zip(grid, self.grid, strict=True)
            rows, columns = (torch.from_numpy(resizing_matrix(*side, interpolation)).float() for side in sides)
            self.register_buffer(f"rows{index}", rows)
            self.register_buffer(f"columns{index}", columns.T.contiguous())

    def forward(self, features: tuple[Tensor, ...]) -> Tensor:
        return self.map_and_layers(features)[0]

    def layers(self, features: tuple[Tensor, ...]) -> list[Tensor]:
        """Returns each layer's factor of the map: its squared residuals to the power of its weight."""
        return self.map_and_layers(features)[1]

    def map_and_layers(self, features: tuple[Tensor, ...]) -> tuple[Tensor, list[Tensor]]:
        maps = self._maps(features)
        if len(maps) == 1:
            return maps[0], maps
        if self.join == "logs":
            logs = [
                weight * to_grid(torch.log(layer + floor), self.grid)
                for weight, layer, floor in zip(self.weights, maps, self.floors, strict=True)
            ]
            return torch.exp(torch.stack(logs).sum(0)), [torch.exp(own) for own in logs]
        factors = []
        for index, (weight, layer) in enumerate(zip(self.weights, maps, strict=True)):
            resized = self.get_buffer(f"rows{index}") @ layer @ self.get_buffer(f"columns{index}")
            factors.append(resized.clamp_min(0).pow(weight))  # bicubic interpolation overshoots
        product = torch.ones(())
        for factor in factors:
            product = product.to(factor) * factor
        return product, factors

    def _maps(self, features: tuple[Tensor, ...]) -> list[Tensor]:
        return [
            residual(layer.flatten(1)).unflatten(1, layer.shape[1:]).square().sum(1)
            for residual, layer in zip(self.residuals, features, strict=True)
        ]

    def score(self, features: tuple[Tensor, ...], coarse: Tensor, full: Tensor) -> Tensor:
        if self.power == 1:
            return torch.sqrt(coarse.mean((1, 2)) * self.positions)
        return torch.sqrt(power_mean(coarse, self.power) * self.positions)
