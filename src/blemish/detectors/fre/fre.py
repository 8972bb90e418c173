"""FRE: the part of an image's features outside the principal subspace of normal images' features."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blemish.detectors.detector import Detector, Features, Grid
from blemish.detectors.head import Head, Part, fixed, to_grid
from blemish.detectors.power_mean import power_mean
from blemish.errors import SettingError
from blemish.statistics import Principal, Statistic, Subspace
from blemish.statistics.subspace import ROOM

VARIANCE, VARIANCE_WITH_COPIES = 0.97, 0.9
"""The share of variance that is kept by default."""

MEMORY = 1 << 30
"""Bytes that the rows of one layer's subspace may take."""

RESERVE = 0.8
"""The share of the variance outside the subspace whose directions a fitted model keeps too, so that it can learn more.
Scores after 100 updates are then within 1 % of those of one fit, unless shifted copies make more rows than there is
room for (`benchmarks/growth.py`)."""

FLOOR = 1e-3
"""Added to a layer's map before the geometric mean, a share of the layer's mean variance at a position. Without it, a
position where all normal images agree to the last bit would make the product zero there."""

TINY = 1e-12
"""The smallest variance that is divided by."""


@dataclass(kw_only=True)
class FRE(Detector):
    """Squared reconstruction error of each layer's flattened features by principal components.

    The map of one layer is the squared residual summed over channels; several layers are joined by their geometric mean
    (eq. 3) on the finest layer's grid. The score is sqrt(P · M_power(map)): P positions, M_p the power mean over them.
    With one layer and power 1 this is the paper's ||e||_2; with a growing power it nears the largest value. Plain norms
    miss small defects on large images, and maxima miss large faint ones; `docs/detectors.md` has the measurements.

    Attributes:
        variance: the share of variance that the subspace keeps, above 0 and below 1. `None` is 0.97, or 0.9 where it
            learns from shifted copies too: most of the directions that these add explain little.
        power: exponent of the power mean, 1 to 64.
        weights: of the layers in the geometric mean, one each; `None` takes binomial coefficients, so that the middle
            one of three layers counts twice, which is the best one alone. The paper's are equal.
    """

    name: ClassVar[str] = "fre"
    strides: ClassVar[tuple[int, ...]] = (8, 16, 32)

    gains_by_copies: ClassVar[bool] = True

    variance: float | None = None
    power: float = 6.0
    weights: tuple[float, ...] | None = None
    interpolation: str = "bicubic"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.variance is not None and not 0 < self.variance < 1:
            raise SettingError(f"variance {self.variance} is out of range; give a share above 0 and below 1")
        if not 1 <= self.power <= 64:
            raise SettingError(f"power {self.power} is out of range; give 1 to 64")
        if self.weights is not None:
            self.weights = tuple(float(weight) for weight in self.weights)
            if not self.weights or min(self.weights) < 0 or not sum(self.weights) > 0:
                raise SettingError(f"weights {self.weights} are out of range; give numbers from 0, not all of them 0")

    @property
    def share(self) -> float:
        """The share of variance that the subspace keeps."""
        return VARIANCE if self.variance is None else self.variance

    def expect(self, copies: int) -> None:
        if self.variance is None:
            self.variance = VARIANCE_WITH_COPIES if copies else VARIANCE

    def memory(self, grids: list[Grid], images: int, batch: int) -> int:
        # The rows, those that are left of them at the end, and these again in the graph.
        return sum(3 * 4 * dim * _rows(min(images, _room(dim))) for dim in _dims(grids))

    def empty(self, grids: list[Grid]) -> dict[str, Statistic]:
        if self.weights is not None and len(self.weights) != len(grids):
            raise SettingError(f"{len(self.weights)} weights for {len(grids)} layers; give one a layer")
        return {f"layer{index}": Subspace.empty(dim, _rows(_room(dim))) for index, dim in enumerate(_dims(grids))}

    def leaves_out(self, grids: list[Grid]) -> int:
        return min(_room(dim) for dim in _dims(grids))  # more would be truncated

    def batches(self, features: Features) -> Iterator[tuple[str, Tensor]]:
        for index, layer in enumerate(features):
            yield f"layer{index}", layer.flatten(1)  # (B, D)

    @property
    def subspaces_(self) -> list[Subspace]:
        """The statistic of each layer."""
        return [cast(Subspace, self.statistics_[f"layer{index}"]) for index in range(len(self.grids_))]

    def head(self) -> Head:
        if not self.count:
            raise SettingError("fre has seen no images yet")
        principals = [subspace.finish(self.share) for subspace in self.subspaces_]
        variances = self.variances(principals)
        left = [(1 - principal.kept) * own for principal, own in zip(principals, variances, strict=True)]
        return self.joined([Projection(principal) for principal in principals], left, variances)

    def variances(self, principals: Sequence[Principal]) -> list[float]:
        """Returns the mean variance at a position of each layer."""
        return [
            principal.energy / (max(self.count, 1) * height * width)
            for principal, (_, height, width) in zip(principals, self.grids_, strict=True)
        ]

    def joined(self, residuals: Sequence[nn.Module], left: Sequence[float], variances: Sequence[float]) -> FREHead:
        """Returns the head with this detector's weights and power."""
        last = len(residuals) - 1
        weights = self.weights or [math.comb(last, index) for index in range(last + 1)]
        return FREHead(residuals, self.grids_, left, variances, weights, self.power)

    def compact(self) -> None:
        """Keeps the directions that scoring uses, and `RESERVE` of the variance of the others; the rest as its energy.

        Later images are merged with what is kept. The directions in reserve are those that they may bring up.
        """
        for subspace in self.subspaces_:
            subspace.truncate(subspace.room, self.share + RESERVE * (1 - self.share))

    def summary(self) -> dict[str, Any]:
        return {"directions": [len(subspace.finish(self.share).mixing) for subspace in self.subspaces_]}


def _dims(grids: list[Grid]) -> list[int]:
    """Returns how many numbers each layer's features have."""
    return [channels * height * width for channels, height, width in grids]


def _room(dim: int) -> int:
    """Returns how many vectors of this length a subspace keeps without loss."""
    return max(64, min(ROOM, MEMORY // (4 * dim)))


def _rows(vectors: int) -> int:
    """Returns how many rows so many vectors take: each batch, of 16 or more on average, adds one for its mean."""
    return vectors + vectors // 16 + 1


class Projection(nn.Module):
    """Returns the residuals of vectors (B, D) outside a principal subspace: (u - m) - B B^T (u - m)."""

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


class FREHead(Head):
    """Squared residuals of each layer, joined by their weighted geometric mean.

    Args:
        residuals: one module for each layer, from vectors (B, D) to what is not reconstructed of them (B, D).
        grids: of the layers.
        left: of each layer, the mean squared residual at a position on the images learned from.
        variances: of each layer, their mean variance at a position.
        weights: of each layer in the geometric mean.
        power: of the power mean of the score.
    """

    adds_up = False

    def __init__(
        self,
        residuals: Sequence[nn.Module],
        grids: list[Grid],
        left: Sequence[float],
        variances: Sequence[float],
        weights: Sequence[float],
        power: float,
    ) -> None:
        super().__init__()
        self.weights = [weight / sum(weights) for weight in weights]
        self.grid = max((height, width) for _, height, width in grids)
        self.power = power
        self.residuals = nn.ModuleList(residuals)
        self.parts = [Part((index,)) for index in range(len(grids))]
        together = math.exp(sum(w * math.log(max(own, TINY)) for w, own in zip(self.weights, left, strict=True)))
        self.units = [together / max(own, TINY) for own in left]
        self.floors = [max(FLOOR * own, TINY) for own in variances]

    def forward(self, features: tuple[Tensor, ...]) -> Tensor:
        maps = self._maps(features)
        if len(maps) == 1:
            return maps[0]
        logs = [
            weight * to_grid(torch.log(layer + floor), self.grid)
            for weight, layer, floor in zip(self.weights, maps, self.floors, strict=True)
        ]
        return torch.exp(torch.stack(logs).sum(0))

    def layers(self, features: tuple[Tensor, ...]) -> list[Tensor]:
        """Returns each layer's squared residuals, in units in which layers and map can be compared.

        If every layer is the same number of times above its mean on the images learned from, all have the map's value.
        """
        return [unit * layer for unit, layer in zip(self.units, self._maps(features), strict=True)]

    def _maps(self, features: tuple[Tensor, ...]) -> list[Tensor]:
        return [
            residual(layer.flatten(1)).unflatten(1, layer.shape[1:]).square().sum(1)
            for residual, layer in zip(self.residuals, features, strict=True)
        ]

    def score(self, features: tuple[Tensor, ...], coarse: Tensor, full: Tensor) -> Tensor:
        if self.power == 1:
            return torch.sqrt(coarse.sum((1, 2)))
        return torch.sqrt(power_mean(coarse, self.power) * (coarse.shape[1] * coarse.shape[2]))
