"""FRE: the part of an image's features outside the principal subspace of normal images' features."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blemish.detectors.detector import Detector, Features, Grid, Head, Part, fixed, to_grid
from blemish.errors import SettingError
from blemish.statistics import Principal, Subspace
from blemish.statistics.subspace import ROOM

MEMORY = 1 << 30
"""Bytes that the rows of one layer's subspace may take."""

FLOOR = 1e-3
"""Added to a layer's map before the geometric mean, as a share of the layer's variance a position: a position where all
normal images agree to the last bit would otherwise silence the other layers there."""


@dataclass(kw_only=True)
class FRE(Detector):
    """Squared reconstruction error by principal components, of each layer's features flattened.

    The map of one layer is the squared residual summed over channels; several layers are joined by their geometric mean
    (eq. 3) on the finest layer's grid. The score is sqrt(P · M_power(map)): P positions, M_p the power mean over them.
    With one layer and power 1 this is the paper's ||e||_2; as the power grows it becomes the largest value. Plain norms
    miss small defects on large images, maxima miss faint ones all over; `docs/detectors.md` has the measurements.

    Attributes:
        variance: the share of variance that the subspace keeps, above 0 and below 1.
        power: exponent of the power mean, 1 to 64.
        weights: of the layers in the geometric mean, one each; `None` takes binomial coefficients, so that of three
            layers the middle one, the best alone, counts twice. The paper's are equal.
    """

    name: ClassVar[str] = "fre"
    strides: ClassVar[tuple[int, ...]] = (8, 16, 32)

    variance: float = 0.97
    power: float = 6.0
    weights: tuple[float, ...] | None = None
    interpolation: str = "bicubic"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.subspaces_: list[Subspace] = []
        if not 0 < self.variance < 1:
            raise SettingError(f"variance {self.variance} is out of range; give a share above 0 and below 1")
        if not 1 <= self.power <= 64:
            raise SettingError(f"power {self.power} is out of range; give 1 to 64")
        if self.weights is not None:
            self.weights = tuple(float(weight) for weight in self.weights)
            if not self.weights or min(self.weights) < 0 or not sum(self.weights) > 0:
                raise SettingError(f"weights {self.weights} are out of range; give numbers from 0, not all of them 0")

    def memory(self, grids: list[Grid], images: int, batch: int) -> int:
        # The rows, those that are left of them at the end, and these again in the graph.
        return sum(3 * 4 * dim * min(images + images // 16, _room(dim)) for dim in _dims(grids))

    def _start(self, grids: list[Grid]) -> None:
        if self.weights is not None and len(self.weights) != len(grids):
            raise SettingError(f"{len(self.weights)} weights for {len(grids)} layers; give one a layer")
        self.subspaces_ = [Subspace.empty(dim, _room(dim)) for dim in _dims(grids)]

    def _take_in(self, features: Features) -> None:
        for subspace, layer in zip(self.subspaces_, features, strict=True):
            subspace.update(layer.flatten(1))

    @property
    def count(self) -> int:
        return self.subspaces_[0].count if self.subspaces_ else 0

    def head(self) -> Head:
        principals = [subspace.finish(self.variance) for subspace in self.subspaces_]
        last = len(principals) - 1
        weights = self.weights or [math.comb(last, index) for index in range(last + 1)]
        return _FREHead(principals, self.grids_, self.count, weights, self.power)

    def compact(self) -> None:
        """Keeps the directions that scoring uses and the energy of the others."""
        for subspace in self.subspaces_:
            subspace.truncate(subspace.room, self.variance)

    def tensors(self) -> dict[str, Tensor]:
        return {
            f"layer{i}.{name}": value
            for i, subspace in enumerate(self.subspaces_)
            for name, value in {
                "count": torch.tensor(subspace.count),
                "mean": subspace.mean,
                "rows": subspace.rows,
                "lost": torch.tensor(subspace.lost, dtype=torch.float64),
                "gram": subspace.products(),
            }.items()
        }

    def _restore(self, tensors: Mapping[str, Tensor]) -> None:
        self.subspaces_ = [
            Subspace(
                int(tensors[f"layer{i}.count"]),
                tensors[f"layer{i}.mean"],
                tensors[f"layer{i}.rows"],
                float(tensors[f"layer{i}.lost"]),
                empty.room,
                tensors[f"layer{i}.gram"],
            )
            for i, empty in enumerate(self.subspaces_)
        ]

    def summary(self) -> dict[str, Any]:
        return {"directions": [len(subspace.rows) for subspace in self.subspaces_]}


def _dims(grids: list[Grid]) -> list[int]:
    """Numbers in each layer's features."""
    return [channels * height * width for channels, height, width in grids]


def _room(dim: int) -> int:
    """Rows that a subspace of vectors so long may keep."""
    return max(64, min(ROOM, MEMORY // (4 * dim)))


class _FREHead(Head):
    adds_up = False

    def __init__(
        self, principals: list[Principal], grids: list[Grid], count: int, weights: Sequence[float], power: float
    ) -> None:
        super().__init__()
        self.weights = [weight / sum(weights) for weight in weights]
        self.grid = max((height, width) for _, height, width in grids)
        self.power = power
        self.means = nn.ParameterList([fixed(principal.mean) for principal in principals])
        self.rows = nn.ParameterList([fixed(principal.rows) for principal in principals])
        self.mixings = nn.ParameterList([fixed(principal.mixing) for principal in principals])
        self.parts = [Part((index,)) for index in range(len(grids))]
        # What the images that were learned from leave in each layer, on average, at a position.
        leftover = [
            max((1 - principal.kept) * principal.energy / (max(count, 1) * height * width), 1e-12)
            for principal, (_, height, width) in zip(principals, grids, strict=True)
        ]
        together = math.exp(sum(w * math.log(left) for w, left in zip(self.weights, leftover, strict=True)))
        self.units = [together / left for left in leftover]
        self.floors = [
            max(FLOOR * principal.energy / (max(count, 1) * height * width), 1e-12)
            for principal, (_, height, width) in zip(principals, grids, strict=True)
        ]

    def forward(self, features: tuple[Tensor, ...]) -> Tensor:
        maps = self._residuals(features)
        if len(maps) == 1:
            return maps[0]
        logs = [
            weight * to_grid(torch.log(layer + floor), self.grid)
            for weight, layer, floor in zip(self.weights, maps, self.floors, strict=True)
        ]
        return torch.exp(torch.stack(logs).sum(0))

    def layers(self, features: tuple[Tensor, ...]) -> list[Tensor]:
        """Each layer's squared residuals, in units that make the layers comparable with one another and with the map:
        where every layer is as many times above its mean on the images learned from, all show the map's value."""
        return [unit * layer for unit, layer in zip(self.units, self._residuals(features), strict=True)]

    def _residuals(self, features: tuple[Tensor, ...]) -> list[Tensor]:
        maps: list[Tensor] = []
        for layer, mean, rows, mixing in zip(features, self.means, self.rows, self.mixings, strict=True):
            centred = layer.flatten(1) - mean  # (B, D)
            # The long rows (k, D) serve both ways, and are stored once.
            components = F.linear(F.linear(centred, rows), mixing)  # (B, r)
            residual = centred - components @ mixing @ rows
            maps.append(residual.unflatten(1, layer.shape[1:]).square().sum(1))
        return maps

    def score(self, coarse: Tensor, full: Tensor) -> Tensor:
        if self.power == 1:
            return torch.sqrt(coarse.sum((1, 2)))
        largest = coarse.amax((1, 2), keepdim=True).clamp_min(1e-12)  # taken out, so that no power overflows
        mean = (coarse / largest).pow(self.power).mean((1, 2)).pow(1 / self.power) * largest[:, 0, 0]
        return torch.sqrt(mean * (coarse.shape[1] * coarse.shape[2]))
