"""One multivariate Gaussian for each layer, over all its positions, whitened by eigen-decomposition."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from blemish.detectors.detector import DOUBLE, EIGEN, Detector, Features, Grid
from blemish.detectors.head import ComponentsHead, Head, Part, fixed, to_grid
from blemish.errors import SettingError
from blemish.expected import Choice, Each, Either, Kind, Maybe, Number, Whole
from blemish.statistics import Moments, Statistic

ERROR = 32 * torch.finfo(torch.float32).eps
"""The error of features, as a share of their deviation. For a network in float32 it was up to 18 times the precision of
float32 (EfficientNet-Lite0 in OpenVINO, compared with float64)."""

RULES: dict[str, Callable[[int], float]] = {
    "float64": lambda channels: max(channels * torch.finfo(torch.float64).eps, ERROR**2),
    "float32": lambda channels: channels * torch.finfo(torch.float32).eps,
}
"""Eigenvalues up to this share of the largest one count as errors; a function of the number of channels."""


@dataclass(frozen=True)
class Components:
    """A layer's whitening in float64, y = `rows` (x - `mean`).

    Attributes:
        mean: (C,).
        rows: (K, C): row c is v_c / sqrt(w_c).
        indices: of the rows among all C components, which are ordered by eigenvalue, smallest first.
        values: all C eigenvalues, ascending.
        dead: how many of them are too small, relative to the largest, to be used.
    """

    mean: Tensor
    rows: Tensor
    indices: tuple[int, ...]
    values: Tensor
    dead: int


@dataclass(kw_only=True)
class Gaussian(Detector):
    """Squared Mahalanobis distance of each position's features from the layer's mean, summed over layers.

    Attributes:
        rtol: components with an eigenvalue at or below `rtol` times the largest are dropped; dead or duplicate channels
            cause them. A number, or the name of a rule: `float64` drops what is no larger than the errors of float32
            features, and keeps all else that a covariance in float64 can tell, as the paper does; `float32` drops more,
            all below the number of channels times the precision of float32.
        drop: for each layer the components to leave out of the sum, counted from 0 by eigenvalue, smallest first;
            `None` leaves out none.
    """

    name: ClassVar[str] = "gaussian"
    strides: ClassVar[tuple[int, ...]] = (16,)

    allowed: ClassVar[Mapping[str, Kind]] = {
        "rtol": Either(Choice(*RULES), Number(0, 1, below=True)),
        "drop": Maybe(Each(Each(Whole(0, 65_535), 0, 65_536), 1, 64, "for each layer a list of components from 0")),
    }

    rtol: float | str = "float32"
    drop: tuple[tuple[int, ...], ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.drop is not None:
            self.drop = tuple(tuple(sorted(set(layer))) for layer in self.drop)

    def memory(self, grids: list[Grid], images: int, batch: int) -> int:
        return sum(8 * channels * (6 * channels + 2 * batch * height * width) for channels, height, width in grids)

    def operations(self, grids: list[Grid], rows: int, scored: int, models: int) -> float:
        found = 0.0
        for channels, height, width in grids:
            found += 2 * (DOUBLE * rows + scored) * height * width * channels**2
            found += models * DOUBLE * EIGEN * channels**3
        return found

    def size(self, grids: list[Grid], rows: int) -> int:
        return sum((8 + 4) * channels**2 for channels, _, _ in grids)

    def empty(self, grids: list[Grid]) -> dict[str, Statistic]:
        if self.drop is not None:
            if len(self.drop) != len(grids):
                raise SettingError(
                    f"drop has lists for {len(self.drop)} layers, and there are {len(grids)}; give one list a layer"
                )
            for layer, (dropped, (channels, _, _)) in enumerate(zip(self.drop, grids, strict=True)):
                wrong = [index for index in dropped if not 0 <= index < channels]
                if wrong:
                    raise SettingError(f"layer {layer} has no component {wrong[0]}; give 0 to {channels - 1}")
        return {f"layer{index}": Moments.empty(channels) for index, (channels, _, _) in enumerate(grids)}

    def batches(self, features: Features) -> Iterator[tuple[str, Tensor]]:
        for index, layer in enumerate(features):
            yield f"layer{index}", layer.movedim(1, -1).flatten(0, -2)  # (B · H · W, C)

    def components(self, layer: int) -> Components:
        """Returns the whitening of a layer.

        The rows give the components of `scipy.stats.Covariance.from_eigendecomposition(...).whiten`, without the dead
        ones, which come first there, and without those to `drop`.

        Raises:
            SettingError: the features never vary, or no component is left.
        """
        mean, covariance = self.statistics_[f"layer{layer}"].finish()
        values, vectors = torch.linalg.eigh(covariance)
        rtol = RULES[self.rtol](len(values)) if isinstance(self.rtol, str) else self.rtol
        kept = values > rtol * values[-1].clamp_min(0)
        if not bool(kept.any()):
            raise SettingError("the features of the training images never vary; give images that differ")
        dead = int((~kept).sum())
        if self.drop is not None:
            kept[list(self.drop[layer])] = False
        if not bool(kept.any()):
            raise SettingError(f"no component of layer {layer} would be left; drop fewer, or leave the layer out")
        rows = (vectors[:, kept] / values[kept].sqrt()).T
        return Components(mean, rows, tuple(torch.nonzero(kept).flatten().tolist()), values, dead)

    def rounding(self) -> float:
        layers = [(index, self.components(index)) for index in range(len(self.grids_))]
        return max(
            cast(Moments, self.statistics_[f"layer{index}"]).rounding() / float(layer.values[list(layer.indices)].min())
            for index, layer in layers
        )

    def head(self) -> Head:
        if not self.count:
            raise SettingError("gaussian has seen no images yet")
        return _GaussianHead([self.components(layer) for layer in range(len(self.grids_))], self.grids_)

    def summary(self) -> dict[str, Any]:
        layers = [self.components(layer) for layer in range(len(self.grids_))]
        return {
            "components": [len(layer.indices) for layer in layers],
            "dropped_components": [layer.dead for layer in layers],
        }


class _GaussianHead(ComponentsHead):
    def __init__(self, layers: list[Components], grids: list[Grid]) -> None:
        super().__init__()
        self.grid = max((height, width) for _, height, width in grids)
        self.parts = [Part((index,), layer.indices) for index, layer in enumerate(layers)]
        self.means = nn.ParameterList([fixed(layer.mean[:, None]) for layer in layers])
        self.factors = nn.ParameterList([fixed(layer.rows) for layer in layers])

    def forward(self, features: tuple[Tensor, ...]) -> Tensor:
        return self.map_and_layers(features)[0]

    def map_and_layers(self, features: tuple[Tensor, ...]) -> tuple[Tensor, list[Tensor]]:
        layers = self.layers(features)
        total = torch.zeros(())
        for layer in layers:
            total = total.to(layer) + to_grid(layer, self.grid)
        return total, layers

    def components(self, features: tuple[Tensor, ...]) -> list[Tensor]:
        return [
            (factor @ (layer.flatten(2) - mean)).square().unflatten(2, layer.shape[2:])  # (B, K, H, W)
            for layer, mean, factor in zip(features, self.means, self.factors, strict=True)
        ]
