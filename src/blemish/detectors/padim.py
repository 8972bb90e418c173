"""PaDiM: one Gaussian a position, over the channels of several layers joined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from blemish.detectors.detector import Detector, Features, Grid, Head, stored
from blemish.errors import SettingError
from blemish.statistics import GridMoments
from blemish.statistics.memory import uninitialised

LARGEST_SCATTER = 8 << 30

BLOCK = 256
"""Positions to a statistic of their own: what an update or a factorisation touches then stays in the cache."""


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
        self.moments_: list[GridMoments] = []
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
        dim = len(self.channels_)
        self.moments_ = [
            GridMoments.empty(len(block), dim) for block in torch.split(torch.arange(height * width), BLOCK)
        ]

    def _take_in(self, features: Features) -> None:
        rows, places = _by_position(features, self._by_layer(), _finest(self.grids_))
        blocks = zip(*(torch.split(index, BLOCK) for index in places), strict=True)
        for moments, block in zip(self.moments_, blocks, strict=True):
            moments.update(_joined(rows, block).transpose(0, 1))

    @property
    def count(self) -> int:
        return self.moments_[0].count if self.moments_ else 0

    def head(self) -> Head:
        if self.count < 2:
            raise SettingError(
                f"PaDiM was given {self.count} image to fit besides those held out, and a covariance needs 2; "
                "give more images"
            )
        projection = self._principal() if self.reduction == "pca" and self.dims < len(self.channels_) else None
        dim = len(self.channels_) if projection is None else self.dims
        height, width = _finest(self.grids_)
        means = uninitialised(height * width, dim)
        whitening = uninitialised(height * width, dim, dim)
        identity = torch.eye(dim)
        blocks = zip(self.moments_, torch.split(means, BLOCK), torch.split(whitening, BLOCK), strict=True)
        for moments, mean_of_block, whitening_of_block in blocks:
            mean, covariance = moments.finish()
            if projection is not None:
                mean = mean @ projection
                covariance = projection.T.float() @ covariance @ projection.float()
            covariance.diagonal(dim1=1, dim2=2).add_(self.epsilon)
            factor = torch.linalg.cholesky(covariance)
            mean_of_block.copy_(mean)
            whitening_of_block.copy_(torch.linalg.solve_triangular(factor.mT, identity, upper=True))
        return _PaDiMHead(self._by_layer(), self.grids_, means, whitening, projection)

    def _principal(self) -> Tensor:
        """Leading eigenvectors (D, dims) of the covariance of all positions' embeddings together."""
        mean = torch.cat([moments.mean for moments in self.moments_])
        scatter = torch.stack([moments.scatter.sum(0, dtype=torch.float64) for moments in self.moments_]).sum(0)
        centred = mean - mean.mean(0)
        _, vectors = torch.linalg.eigh(scatter / self.count + centred.T @ centred)
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
        blocks = {k: v for i, moments in enumerate(self.moments_) for k, v in stored(moments, f"block{i}").items()}
        return {"channels": self.channels_, **blocks}

    def _restore(self, tensors: Mapping[str, Tensor]) -> None:
        self.channels_ = tensors["channels"]
        self.moments_ = [
            GridMoments(int(tensors[f"block{i}.count"]), tensors[f"block{i}.mean"], tensors[f"block{i}.scatter"])
            for i in range(len(self.moments_))
        ]

    def summary(self) -> dict[str, Any]:
        height, width = _finest(self.grids_)
        return {"positions": [height, width], "channels": len(self.channels_)}


class _PaDiMHead(Head):
    """All positions' whitening as one batched product; its cost is the reading of the factors, once a batch of images.

    Args:
        channels: chosen of each layer.
        mean: (P, d).
        whitening: (P, d, d), upper triangular: an embedding (1, d) goes before it.
        projection: (D, d) from the chosen channels to d components, or `None`.
    """

    mean: Tensor
    whitening: Tensor
    projection: Tensor | None

    def __init__(
        self,
        channels: list[Tensor],
        grids: list[Grid],
        mean: Tensor,
        whitening: Tensor,
        projection: Tensor | None,
    ) -> None:
        super().__init__()
        self.grid = _finest(grids)
        for index, chosen in enumerate(channels):
            self.register_buffer(f"channels{index}", chosen)
        self.register_buffer("mean", mean[:, None].contiguous())  # (P, 1, d)
        self.register_buffer("whitening", whitening)
        self.register_buffer("projection", None if projection is None else projection.float().contiguous())

    def forward(self, features: tuple[Tensor, ...]) -> Tensor:
        channels = [self.get_buffer(f"channels{index}") for index in range(len(features))]
        embedding = _joined(*_by_position(features, channels, self.grid))  # (P, B, D)
        if self.projection is not None:
            embedding = embedding @ self.projection
        whitened = (embedding - self.mean) @ self.whitening  # (P, B, d)
        return whitened.square().sum(2).sqrt().T.reshape(-1, *self.grid)


def _finest(grids: list[Grid]) -> tuple[int, int]:
    return max((height, width) for _, height, width in grids)


def _by_position(
    features: Features, channels: list[Tensor], grid: tuple[int, int]
) -> tuple[list[Tensor], list[Tensor]]:
    """Of each layer with chosen channels: these with positions first, (P_l, B, C_l); and, for each position of the
    grid, the index of the layer's nearest one (P,), as `torch.nn.functional.interpolate` has it."""
    rows, places = [], []
    for layer, chosen in zip(features, channels, strict=True):
        if len(chosen) == 0:
            continue
        taken = layer if len(chosen) == layer.shape[1] else layer.index_select(1, chosen)
        # A plain transpose of a matrix is several times quicker than a permutation of three axes.
        height, width = int(layer.shape[2]), int(layer.shape[3])
        rows.append(taken.flatten(2).flatten(0, 1).T.reshape(height * width, -1, len(chosen)))
        down = torch.arange(grid[0], device=layer.device) * height // grid[0]
        across = torch.arange(grid[1], device=layer.device) * width // grid[1]
        places.append((down[:, None] * width + across).flatten())
    return rows, places


def _joined(rows: list[Tensor], places: Sequence[Tensor]) -> Tensor:
    """Embeddings (P, B, D) at the places: all layers' channels, one behind the other."""
    return torch.cat([layer.index_select(0, index) for layer, index in zip(rows, places, strict=True)], dim=2)
