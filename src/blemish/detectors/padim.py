"""PaDiM: one Gaussian a position, over the channels of several layers joined."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from blemish.detectors.detector import Detector, Features, Grid, Head, stored
from blemish.errors import SettingError
from blemish.statistics import GridMoments

LARGEST_SCATTER = 8 << 30


@dataclass(kw_only=True)
class PaDiM(Detector):
    """Mahalanobis distance of each position's embedding from the normal images' at the same position.

    Attributes:
        reduction: `random` (Rd: channels drawn once by `seed`), `pca` (principal components of the embeddings of all
            positions together), or `all`.
        dims: how many dimensions `random` and `pca` leave; all there are where there are fewer.
        epsilon: added to the diagonal of every covariance.
        seed: of the random choice.
    """

    name: ClassVar[str] = "padim"
    strides: ClassVar[tuple[int, ...]] = (4, 8, 16)

    reduction: str = "random"
    dims: int = 100
    epsilon: float = 0.01
    seed: int = 0
    smoothing: float = 4.0
    interpolation: str = "bicubic"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.channels_ = torch.zeros(0, dtype=torch.int64)
        self.moments_ = GridMoments.empty(0, 0)
        if self.reduction not in {"random", "pca", "all"}:
            raise SettingError(f"reduction {self.reduction!r} is not known; give random, pca or all")
        if self.dims < 1:
            raise SettingError(f"dims {self.dims} is out of range; give 1 or more")
        if not self.epsilon > 0:
            raise SettingError(f"epsilon {self.epsilon} is out of range; give a number above 0")

    def _start(self, grids: list[Grid]) -> None:
        total = sum(channels for channels, _, _ in grids)
        if self.reduction == "random" and self.dims < total:
            drawn = np.random.default_rng(self.seed).choice(total, self.dims, replace=False)
            self.channels_ = torch.from_numpy(np.sort(drawn))
        else:
            self.channels_ = torch.arange(total)
        height, width = _finest(grids)
        size = 4 * height * width * len(self.channels_) ** 2
        if size > LARGEST_SCATTER:
            raise SettingError(
                f"PaDiM needs {size >> 30} GiB for {len(self.channels_)} channels at {height}x{width} positions, more "
                f"than the limit of {LARGEST_SCATTER >> 30}; take fewer by random choice (Rd), or other layers"
            )
        self.moments_ = GridMoments.empty(height * width, len(self.channels_))

    def _take_in(self, features: Features) -> None:
        self.moments_.update(_embedding(features, self._by_layer(), _finest(self.grids_)).movedim(1, -1))

    @property
    def count(self) -> int:
        return self.moments_.count

    def head(self) -> Head:
        if self.count < 2:
            raise SettingError(
                f"PaDiM was given {self.count} image to fit besides those held out, and a covariance needs 2; "
                "give more images"
            )
        mean, covariance = self.moments_.finish()
        projection = None
        if self.reduction == "pca" and self.dims < len(self.channels_):
            projection = self._principal(mean, covariance)
            mean = mean @ projection
            covariance = projection.T.float() @ covariance @ projection.float()
        covariance.diagonal(dim1=1, dim2=2).add_(self.epsilon)
        factor = torch.linalg.cholesky(covariance)
        whitening = torch.linalg.solve_triangular(factor, torch.eye(factor.shape[-1]), upper=False)
        return _PaDiMHead(self._by_layer(), _finest(self.grids_), mean.float(), whitening, projection)

    def _principal(self, mean: Tensor, covariance: Tensor) -> Tensor:
        """Leading eigenvectors (D, dims) of the covariance of all positions' embeddings together."""
        within = covariance.double().mean(0) * (self.count - 1) / self.count
        centred = mean - mean.mean(0)
        _, vectors = torch.linalg.eigh(within + centred.T @ centred / len(mean))
        leading: Tensor = vectors.flip(1)[:, : self.dims]
        return leading

    def _by_layer(self) -> list[Tensor]:
        """The chosen channels of each layer, counted within it."""
        ends = np.cumsum([channels for channels, _, _ in self.grids_])
        starts = [0, *ends[:-1]]
        return [
            self.channels_[(self.channels_ >= start) & (self.channels_ < end)] - int(start)
            for start, end in zip(starts, ends, strict=True)
        ]

    def tensors(self) -> dict[str, Tensor]:
        return {"channels": self.channels_, **stored(self.moments_, "grid")}

    def _restore(self, tensors: Mapping[str, Tensor]) -> None:
        self.channels_ = tensors["channels"]
        self.moments_ = GridMoments(int(tensors["grid.count"]), tensors["grid.mean"], tensors["grid.scatter"])

    def summary(self) -> dict[str, Any]:
        height, width = _finest(self.grids_)
        return {"positions": [height, width], "channels": len(self.channels_)}


class _PaDiMHead(Head):
    channels: list[Tensor]
    mean: Tensor
    whitening: Tensor
    projection: Tensor | None

    def __init__(
        self,
        channels: list[Tensor],
        grid: tuple[int, int],
        mean: Tensor,
        whitening: Tensor,
        projection: Tensor | None,
    ) -> None:
        super().__init__()
        self.grid = grid
        for index, chosen in enumerate(channels):
            self.register_buffer(f"channels{index}", chosen)
        self.register_buffer("mean", mean[:, :, None].contiguous())  # (P, d, 1)
        self.register_buffer("whitening", whitening)  # (P, d, d), lower triangular
        self.register_buffer("projection", None if projection is None else projection.float().contiguous())

    def forward(self, features: tuple[Tensor, ...]) -> Tensor:
        channels = [self.get_buffer(f"channels{index}") for index in range(len(features))]
        embedding = _embedding(features, channels, self.grid)  # (B, D, P)
        if self.projection is not None:
            embedding = self.projection.T @ embedding
        whitened = self.whitening @ (embedding.permute(2, 1, 0) - self.mean)  # (P, d, B)
        return whitened.square().sum(1).sqrt().T.reshape(-1, *self.grid)


def _finest(grids: list[Grid]) -> tuple[int, int]:
    return max((height, width) for _, height, width in grids)


def _embedding(features: Features, channels: list[Tensor], grid: tuple[int, int]) -> Tensor:
    """The chosen channels of all layers at every position of the finest grid, (B, D, P); coarser layers by nearest."""
    parts = []
    for layer, chosen in zip(features, channels, strict=True):
        if len(chosen) == 0:
            continue
        taken = layer if len(chosen) == layer.shape[1] else layer.index_select(1, chosen)
        if taken.shape[2:] != grid:
            taken = F.interpolate(taken, size=grid, mode="nearest")
        parts.append(taken.flatten(2))
    return torch.cat(parts, dim=1)
