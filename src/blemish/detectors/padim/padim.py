"""PaDiM: one Gaussian at every position, over the channels of several layers joined."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor

from blemish.detectors.detector import DOUBLE, Detector, Features, Grid
from blemish.detectors.head import ComponentsHead, Head, Part
from blemish.detectors.padim.cells import Level, by_position, embedding, find_levels, finest
from blemish.errors import SettingError, number_of
from blemish.expected import Choice, Kind, Number, Whole
from blemish.statistics import GridMoments, Statistic
from blemish.statistics.memory import uninitialised
from blemish.training.schedule import SEEDS

LEAST = 1e-3
"""The smallest denominator that is precise enough in single precision."""

FACTOR = 24
"""Making a module takes this many times as long as a product, for each number of a cell's scatter and dimension."""

BLOCK = 256
"""Cells in one statistic: few enough that an update or a factorisation stays in the processor's cache."""


@dataclass(kw_only=True)
class PaDiM(Detector):
    """Mahalanobis distance of each position's embedding from the good images' at the same position.

    Attributes:
        reduction: `random` (Rd: channels drawn once by `seed`), `pca` (principal components of the embeddings of all
            positions together), or `all`.
        dims: how many dimensions `random` and `pca` keep; all if there are fewer.
        epsilon: added to the diagonal of every covariance.
        seed: of the random choice.
    """

    name: ClassVar[str] = "padim"
    fewest: ClassVar[int] = 3  # without one that calibrates, two are left: a covariance needs them
    strides: ClassVar[tuple[int, ...]] = (4, 8, 16)

    allowed: ClassVar[Mapping[str, Kind]] = {
        "reduction": Choice("random", "pca", "all"),
        "dims": Whole(1, 65_536),
        "epsilon": Number(1e-12, 1e12),
        "seed": Whole(0, SEEDS - 1),
    }

    reduction: str = "random"
    dims: int = 100
    epsilon: float = 0.01
    seed: int = 0
    smoothing: float = 4.0
    interpolation: str = "bicubic"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.channels_ = torch.zeros(0, dtype=torch.int64)
        self.by_layer_: list[Tensor] = []
        self.levels_: list[Level] = []
        self.restored_: Tensor | None = None
        self.leaves_out_each_ = False

    def memory(self, grids: list[Grid], images: int, batch: int) -> int:
        channels = self._drawn(grids)
        height, width = finest(grids)
        scatter = sum(len(level) * level.added * level.dim for level in self._levels(grids))
        # The scatter, its factors twice, these again in the graph, and the embeddings of a batch.
        return 4 * (6 * scatter + 8 * batch * height * width * len(channels))

    def operations(self, grids: list[Grid], rows: int, scored: int, models: int) -> float:
        found = 0.0
        for level in self._levels(grids):
            cells = len(level) * level.added * level.dim
            # One module scores each image by all others, unless there are too few for that; another is the model's.
            modules = 2 if rows > level.dim else models
            found += cells * (2 * (DOUBLE * rows + scored) + modules * FACTOR * level.dim)
        return found

    def size(self, grids: list[Grid], rows: int) -> int:
        return sum(8 * len(level) * level.added * level.dim for level in self._levels(grids))

    def _levels(self, grids: list[Grid]) -> list[Level]:
        channels = self._drawn(grids)
        return find_levels(grids, _by_layer(channels, grids), together=self._mixes(channels))

    def empty(self, grids: list[Grid]) -> dict[str, Statistic]:
        self.channels_ = self._drawn(grids)
        self.by_layer_ = _by_layer(self.channels_, grids)
        self.levels_ = find_levels(grids, self.by_layer_, together=self._mixes(self.channels_))
        return {
            f"level{index}.block{number}": GridMoments.empty(len(block), level.dim, level.added)
            for index, level in enumerate(self.levels_)
            for number, block in enumerate(torch.split(level.parents, BLOCK))
        }

    def batches(self, features: Features) -> Iterator[tuple[str, Tensor]]:
        rows = by_position(features, self.by_layer_)
        above = torch.zeros(1, len(features[0]), 0)
        for index, level in enumerate(self.levels_):
            own = [rows[layer] for layer in level.layers]
            places = zip(*(torch.split(index, BLOCK) for index in (level.parents, *level.places)), strict=True)
            joined = []
            for number, (parents, *indices) in enumerate(places):
                block = embedding(above, parents, own, indices)  # (N, B, D)
                yield f"level{index}.block{number}", block.transpose(0, 1)
                if level is not self.levels_[-1]:
                    joined.append(block)
            above = torch.cat(joined) if joined else above

    def blocks(self, level: int) -> list[GridMoments]:
        """Returns the statistics of a level, one for each block of its cells."""
        return [cast(GridMoments, own) for name, own in self.statistics_.items() if name.startswith(f"level{level}.")]

    def _drawn(self, grids: list[Grid]) -> Tensor:
        """Returns the channels to keep, of all layers together."""
        if self.restored_ is not None:
            return self.restored_
        total = sum(channels for channels, _, _ in grids)
        if self.reduction != "random" or self.dims >= total:
            return torch.arange(total)
        return torch.from_numpy(np.sort(np.random.default_rng(self.seed).choice(total, self.dims, replace=False)))

    def _mixes(self, channels: Tensor) -> bool:
        """Whether components mix the channels of all layers, so that none depends on coarse layers alone."""
        return self.reduction == "pca" and self.dims < len(channels)

    def head(self) -> Head:
        if self.count < 2:
            raise SettingError(
                f"PaDiM has {number_of(self.count, 'image')} to learn from, without those that calibrate, and a "
                "covariance needs 2; give more images"
            )
        projection = self._principal() if self._mixes(self.channels_) else None
        means, factors = [], []
        whole = torch.zeros(1, 0, 0, dtype=torch.float64)  # the coarser level's whitening (N, d, d), lower triangular
        for index, level in enumerate(self.levels_):
            added = level.added if projection is None else self.dims
            dim = level.dim if projection is None else self.dims
            mean = uninitialised(len(level), dim)
            factor = uninitialised(len(level), added, dim)
            is_last = level is self.levels_[-1]
            exact: list[Tensor] = []  # not rounded to single precision, since the next level's factors stand on these
            of_blocks = (torch.split(tensor, BLOCK) for tensor in (mean, factor, level.parents))
            for moments, mean_of_block, factor_of_block, parents in zip(self.blocks(index), *of_blocks, strict=True):
                centre, covariance = moments.finish()
                if self.leaves_out_each_:
                    covariance *= (self.count - 1) / (self.count - 2)  # the denominator of one image fewer
                if projection is not None:
                    centre, covariance = centre @ projection, projection.T @ covariance @ projection
                mean_of_block.copy_(centre)
                whitening = _whitening(covariance, whole[parents], self.epsilon)
                factor_of_block.copy_(whitening)
                if not is_last:
                    exact.append(whitening)
            means.append(mean)
            factors.append(factor)
            if not is_last:
                above = torch.nn.functional.pad(whole[level.parents], (0, added))
                whole = torch.cat([above, torch.cat(exact)], dim=1)
        count = self.count if self.leaves_out_each_ else None
        return _PaDiMHead(self.by_layer_, self.levels_, finest(self.grids_), means, factors, projection, count)

    def rounding(self) -> float:
        blocks = (cast(GridMoments, own) for own in self.statistics_.values())
        return max(block.rounding() for block in blocks) / self.epsilon  # no variance is smaller

    def each_left_out(self) -> PaDiM | None:
        if self._mixes(self.channels_) or self.count < 4:
            return None  # the components depend on all images
        detector = copy.copy(self)
        detector.leaves_out_each_ = True
        return detector

    def _principal(self) -> Tensor:
        """Returns the leading eigenvectors (D, dims) of the covariance of all positions' embeddings together."""
        blocks = self.blocks(0)
        mean = torch.cat([moments.mean for moments in blocks])
        scatter = torch.stack([moments.scatter.sum(0, dtype=torch.float64) for moments in blocks]).sum(0)
        centred = mean - mean.mean(0)
        _, vectors = torch.linalg.eigh(scatter / self.count + centred.T @ centred)
        leading: Tensor = vectors.flip(1)[:, : self.dims]
        return leading

    def merge(self, other: PaDiM) -> PaDiM:
        alike = isinstance(other, PaDiM) and other.settings() == self.settings() and other.grids_ == self.grids_
        if alike and not torch.equal(self.channels_, other.channels_):
            raise SettingError("PaDiM's channels were drawn by different versions of numpy; fit one of them again")
        return super().merge(other)

    def tensors(self) -> dict[str, Tensor]:
        return {**super().tensors(), "channels": self.channels_}

    def restore(self, grids: list[Grid], tensors: Mapping[str, Tensor]) -> PaDiM:
        self.restored_ = tensors["channels"]  # a later numpy might draw others
        return super().restore(grids, tensors)

    def summary(self) -> dict[str, Any]:
        height, width = finest(self.grids_)
        return {"positions": [height, width], "channels": len(self.channels_)}


class _PaDiMHead(ComponentsHead):
    """Squared distances by level, computed once for each cell, and the root of their sum at every position.

    An embedding's components are whitened by a lower triangular factor (Cholesky), so those of the coarse layers depend
    on these layers alone. Most time goes into reading the factors, once for each batch of images.

    Args:
        channels: chosen of each layer.
        levels: coarsest first.
        grid: the finest.
        means: for each level (N, D).
        factors: for each level the rows (N, r, D) of the whitening that it adds.
        projection: (D, d) from the chosen channels to d components, or `None`.
        count: of the images learned from, if each of them is scored as if it was not among them; otherwise `None`.
    """

    projection: Tensor | None

    def __init__(
        self,
        channels: list[Tensor],
        levels: list[Level],
        grid: tuple[int, int],
        means: list[Tensor],
        factors: list[Tensor],
        projection: Tensor | None,
        count: int | None = None,
    ) -> None:
        super().__init__()
        self.grid = grid
        self.count = count
        self.by_level = [level.layers for level in levels]
        # How many of each level's components every layer has; with a projection, which mixes them, one part has all.
        by_layer = [[len(channels[layer]) for layer in level.layers] for level in levels]
        self.widths = by_layer if projection is None else [[factor.shape[1]] for factor in factors]
        ordered = [layer for level in levels for layer in level.layers]
        if projection is None:
            # With a triangular factor, a component is what a channel has beyond what the channels before it explain.
            self.parts = [Part((layer,), tuple(channels[layer].tolist())) for layer in ordered]
        else:
            self.parts = [Part(tuple(ordered), tuple(range(projection.shape[1])))]
        for index, chosen in enumerate(channels):
            self.register_buffer(f"channels{index}", chosen)
        for index, level in enumerate(levels):
            for layer, places in enumerate(level.places):
                self.register_buffer(f"places{index}_{layer}", places)
            self.register_buffer(f"parents{index}", level.parents)
            self.register_buffer(f"cells{index}", level.cells)
            self.register_buffer(f"mean{index}", means[index][:, None])  # (N, 1, D)
            self.register_buffer(f"factor{index}", uninitialised(*factors[index].mT.shape).copy_(factors[index].mT))
        self.register_buffer("projection", None if projection is None else projection.float().contiguous())

    def forward(self, features: tuple[Tensor, ...]) -> Tensor:
        return self.map_and_layers(features)[0]

    def map_and_layers(self, features: tuple[Tensor, ...]) -> tuple[Tensor, list[Tensor]]:
        total, squares = torch.zeros(()), []
        for index, whitened in enumerate(self._whitened(features)):
            cells = self.get_buffer(f"cells{index}")
            for columns in torch.split(whitened.square(), self.widths[index], dim=2):
                squares.append(columns.sum(2).index_select(0, cells))  # (P, B)
                total = total.to(squares[-1]) + squares[-1]
        if self.count is not None:
            # The sums up to each part are squared distances by themselves, so each is taken without the image.
            sums = [_without_itself(own, self.count) for own in torch.stack(squares).cumsum(0)]
            total = sums[-1]
            squares = [own - before for own, before in zip(sums, [torch.zeros(()), *sums], strict=False)]
        distance = total.sqrt()
        shares = [own / distance.clamp_min(1e-12) for own in squares]
        return self._on_grid(distance), [self._on_grid(own) for own in shares]

    def _on_grid(self, values: Tensor) -> Tensor:
        return values.T.reshape(-1, *self.grid)

    def components(self, features: tuple[Tensor, ...]) -> list[Tensor]:
        """Returns y_c² / M for the distance M; they add up to M, as the y_c² add up to M²."""
        squares = [
            whitened.square().index_select(0, self.get_buffer(f"cells{index}"))  # (P, B, r)
            for index, whitened in enumerate(self._whitened(features))
        ]
        joined = torch.cat(squares, 2)
        shares = joined / joined.sum(2, keepdim=True).sqrt().clamp_min(1e-12)
        maps = shares.permute(1, 2, 0).reshape(shares.shape[1], shares.shape[2], *self.grid)  # (B, K, h, w)
        return list(torch.split(maps, [len(part.components) for part in self.parts], dim=1))

    def _whitened(self, features: tuple[Tensor, ...]) -> Iterator[Tensor]:
        """Yields for each level the components (N, B, r) that it adds, at its cells."""
        rows = by_position(features, [self.get_buffer(f"channels{index}") for index in range(len(features))])
        joined = rows[0][:1, :, :0]
        for index, layers in enumerate(self.by_level):
            own = [rows[layer] for layer in layers]
            places = [self.get_buffer(f"places{index}_{place}") for place in range(len(layers))]
            joined = embedding(joined, self.get_buffer(f"parents{index}"), own, places)  # (N, B, D)
            components = joined if self.projection is None else joined @ self.projection
            yield (components - self.get_buffer(f"mean{index}")) @ self.get_buffer(f"factor{index}")


def _without_itself(squared: Tensor, count: int) -> Tensor:
    """Returns squared distances from `count` images without the one whose distance it is.

    With d = x - m and the whole's scatter S, the others' mean is m - d / (n - 1) and their scatter
    S - n / (n - 1) d d^T. By the matrix inversion lemma (Sherman & Morrison 1950), with M^2 the squared distance by
    S / (n - 2) + epsilon, the one from the others is (n / (n - 1))^2 M^2 / (1 - n / (n - 1) M^2 / (n - 2)). Where the
    denominator is nearly 0, too little is known of it, and the result is not a number.
    """
    ratio = count / (count - 1)
    left = 1 - ratio * squared / (count - 2)
    return torch.where(left > LEAST, ratio**2 * squared / left.clamp_min(LEAST), torch.nan)


def _whitening(covariance: Tensor, above: Tensor, epsilon: float) -> Tensor:
    """Returns the rows (N, r, D) that r more dimensions add to a lower triangular whitening (block Cholesky).

    Args:
        covariance: rows (N, r, D) of the covariance for these dimensions, with all D dimensions so far.
        above: the whitening (N, D - r, D - r) of the other dimensions.
        epsilon: added to the diagonal.
    """
    before = above.shape[1]
    mixed = covariance[:, :, :before] @ above.mT  # (N, r, D - r): of the added ones with the whitened others
    left = covariance[:, :, before:] - mixed @ mixed.mT
    left.diagonal(dim1=1, dim2=2).add_(epsilon)
    own = torch.eye(left.shape[1], dtype=left.dtype).expand_as(left)
    rows = torch.cat([-mixed @ above, own], dim=2)
    factor, failed = torch.linalg.cholesky_ex(left)
    if bool(failed.any()):
        raise SettingError(f"epsilon {epsilon:g} is too small for these images; give a larger one, such as 0.01")
    whitening: Tensor = torch.linalg.solve_triangular(factor, rows, upper=False)
    return whitening


def _by_layer(channels: Tensor, grids: list[Grid]) -> list[Tensor]:
    """Returns the chosen channels of each layer, numbered within the layer."""
    ends = np.cumsum([count for count, _, _ in grids])
    starts = [0, *ends[:-1]]
    return [
        channels[(channels >= start) & (channels < end)] - int(start) for start, end in zip(starts, ends, strict=True)
    ]
