"""One multivariate Gaussian a layer, over all its positions together, whitened by eigen-decomposition."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from blemish.detectors.detector import Detector, Features, Grid, Head, fixed, stored, to_grid
from blemish.errors import SettingError
from blemish.statistics import Moments


@dataclass(kw_only=True)
class Gaussian(Detector):
    """Squared Mahalanobis distance of each position's features from the layer's mean; layers are added up.

    Attributes:
        rtol: components with an eigenvalue at or below `rtol` times the largest are dropped, as dead or duplicate
            channels have; `None` is the number of channels times the precision of the features (float32).
    """

    name: ClassVar[str] = "gaussian"
    strides: ClassVar[tuple[int, ...]] = (16,)

    rtol: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.moments_: list[Moments] = []
        if self.rtol is not None and not 0 <= self.rtol < 1:
            raise SettingError(f"rtol {self.rtol} is out of range; give 0 to 1")

    def memory(self, grids: list[Grid], images: int, batch: int) -> int:
        return sum(8 * channels * (6 * channels + 2 * batch * height * width) for channels, height, width in grids)

    def _start(self, grids: list[Grid]) -> None:
        self.moments_ = [Moments.empty(channels) for channels, _, _ in grids]

    def _take_in(self, features: Features) -> None:
        for moments, layer in zip(self.moments_, features, strict=True):
            moments.update(layer.movedim(1, -1).flatten(0, -2))

    @property
    def count(self) -> int:
        if not self.moments_:
            return 0
        _, height, width = self.grids_[0]
        return self.moments_[0].count // (height * width)

    def whitening(self, layer: int) -> tuple[Tensor, Tensor]:
        """Mean (C,) and whitening matrix (K, C) of a layer in float64: row c is v_c / sqrt(w_c), w ascending.

        The rows give the components of `scipy.stats.Covariance.from_eigendecomposition(...).whiten`, but for the
        dropped ones, which come first.

        Raises:
            SettingError: no variance at all was seen.
        """
        mean, covariance = self.moments_[layer].finish()
        values, vectors = torch.linalg.eigh(covariance)
        rtol = len(values) * torch.finfo(torch.float32).eps if self.rtol is None else self.rtol
        kept = values > rtol * values[-1].clamp_min(0)
        if not bool(kept.any()):
            raise SettingError("the features of the training images never vary; give images that differ")
        return mean, (vectors[:, kept] / values[kept].sqrt()).T

    def head(self) -> Head:
        return _GaussianHead([self.whitening(layer) for layer in range(len(self.grids_))], self.grids_)

    def tensors(self) -> dict[str, Tensor]:
        return {k: v for i, moments in enumerate(self.moments_) for k, v in stored(moments, f"layer{i}").items()}

    def _restore(self, tensors: Mapping[str, Tensor]) -> None:
        self.moments_ = [
            Moments(int(tensors[f"layer{i}.count"]), tensors[f"layer{i}.mean"], tensors[f"layer{i}.scatter"])
            for i in range(len(self.grids_))
        ]

    def summary(self) -> dict[str, Any]:
        kept = [len(self.whitening(layer)[1]) for layer in range(len(self.grids_))]
        return {
            "components": kept,
            "dropped_components": [channels - k for (channels, _, _), k in zip(self.grids_, kept, strict=True)],
        }


class _GaussianHead(Head):
    def __init__(self, whitenings: list[tuple[Tensor, Tensor]], grids: list[Grid]) -> None:
        super().__init__()
        self.grid = max((height, width) for _, height, width in grids)
        self.means = nn.ParameterList([fixed(mean[:, None]) for mean, _ in whitenings])
        self.factors = nn.ParameterList([fixed(factor) for _, factor in whitenings])

    def forward(self, features: tuple[Tensor, ...]) -> Tensor:
        total = torch.zeros(())
        for layer, mean, factor in zip(features, self.means, self.factors, strict=True):
            whitened = factor @ (layer.flatten(2) - mean)  # (B, K, H·W)
            squared = whitened.square().sum(1).unflatten(1, layer.shape[2:])
            total = total.to(squared) + to_grid(squared, self.grid)
        return total
