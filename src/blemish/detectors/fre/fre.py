"""FRE: the part of an image's features outside the principal subspace of good images' features."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from blemish.detectors.detector import DOUBLE, EIGEN, MANY, Detector, Features, Grid
from blemish.detectors.fre.head import JOINS, TINY, FREHead, Projection, SharedProjection
from blemish.detectors.head import Head
from blemish.errors import SettingError
from blemish.expected import Choice, Each, Kind, Maybe, Number, Truth
from blemish.statistics import Moments, Statistic, Subspace
from blemish.statistics.subspace import ROOM

VARIANCE, VARIANCE_WITH_COPIES = 0.97, 0.9
"""The share of variance that is kept by default."""

DIRECTIONS = 0.4, 0.8
"""How many directions these shares need, as a share of the rows; measured on the benchmarks' real images."""

MEMORY, MOST_MEMORY = 1 << 30, 4 << 30
"""Bytes that the rows of one layer's subspace may take: where memory is scarce, and where there is enough."""

AT_THE_PEAK, CROSS_FITTED = 3, 3
"""How many times the rows are in memory: the rows, what remains of them at the end, and these again in the graph; and
for how many models at one time in a cross-fit."""

LEAST = 1e-6
"""The smallest sum of layers' weights."""

RESERVE = 0.8
"""A fitted model also keeps directions that hold this share of the variance outside the subspace, so that it can learn
more. After 100 updates its scores are within 1 % of those of one fit, unless shifted copies make more rows than there
is room for (`benchmarks/growth.py`)."""


@dataclass(frozen=True)
class Layer:
    """What is known of one layer after a fit.

    Attributes:
        residual: from vectors (B, D) to what lies outside the subspace (B, D).
        directions: of the subspace.
        kept: the share of the variance that lies in it.
        variance: at a position, on average.
    """

    residual: nn.Module
    directions: int
    kept: float
    variance: float


@dataclass(kw_only=True)
class FRE(Detector):
    """Squared reconstruction error of each layer's features by principal components.

    The map of one layer is the squared residual summed over channels; several layers are joined by their geometric mean
    (eq. 3). The score is sqrt(P · M_power(map)): P positions of the finest layer, M_p the power mean over the map. With
    one layer and power 1 this is the paper's ||e||_2; with a growing power it nears the largest value. Plain norms miss
    small defects on large images, and maxima miss large faint ones; `docs/detectors.md` has the measurements.

    Attributes:
        variance: the share of variance that the subspace keeps, above 0 and below 1. `None` is 0.97, or 0.9 if it also
            learns from shifted copies, since most of the directions that these add explain little.
        power: exponent of the power mean, 1 to 64.
        weights: of the layers in the geometric mean, one each; `None` takes binomial coefficients, so that the middle
            one of three layers, which is the best single layer, counts twice. The paper's weights are equal.
        join: `product` resizes each layer's map to the input by the `interpolation` and multiplies them, as in eq. 3;
            `logs` interpolates their logarithms on the finest layer's grid, with a floor, which is quicker.
        shared: use one subspace for all positions of a layer, whose vectors of C channels are the samples, instead of
            one for the flattened layer. Parts may then lie anywhere, and images can be forgotten.
    """

    name: ClassVar[str] = "fre"
    strides: ClassVar[tuple[int, ...]] = (8, 16, 32)

    gains_by_copies: ClassVar[bool] = True

    allowed: ClassVar[Mapping[str, Kind]] = {
        "variance": Maybe(Number(0, 1, above=True, below=True)),
        "power": Number(1, 64),
        "weights": Maybe(Each(Number(0, 1e6), least=1, most=64)),
        "join": Choice(*JOINS),
        "shared": Truth(),
    }

    variance: float | None = None
    power: float = 6.0
    weights: tuple[float, ...] | None = None
    interpolation: str = "bicubic"
    join: str = "logs"
    shared: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.free_: int | None = None
        if self.weights is not None and sum(self.weights) < LEAST:
            raise SettingError(f"{self.name}: weights are all 0, or nearly; expected a sum of at least {LEAST:g}")

    @property
    def share(self) -> float:
        """The share of variance that the subspace keeps."""
        return VARIANCE if self.variance is None else self.variance

    def expect(self, copies: int, free: int | None = None) -> None:
        self.free_ = free
        if self.variance is None:
            self.variance = VARIANCE_WITH_COPIES if copies else VARIANCE

    def memory(self, grids: list[Grid], images: int, batch: int) -> int:
        if self.shared:
            return sum(8 * channels * (6 * channels + 2 * batch * height * width) for channels, height, width in grids)
        room = self._room(grids)
        return sum(AT_THE_PEAK * 4 * dim * _rows(min(images, room(dim))) for dim in _dims(grids))

    def operations(self, grids: list[Grid], rows: int, scored: int, models: int) -> float:
        if self.shared:
            return sum(
                2 * (DOUBLE * rows + scored) * height * width * channels**2 + models * DOUBLE * EIGEN * channels**3
                for channels, height, width in grids
            )
        found, room = 0.0, self._room(grids)
        for dim in _dims(grids):
            kept = min(rows, room(dim))
            cuts = max(0, math.ceil((rows - kept) / (kept / 2)))  # half of the room is left each time
            # Products of all rows; what a cut computes anew; the score, there and back; and the last cut.
            found += dim * kept * (kept + cuts * 2 * kept + 4 * scored + kept)
            found += (models + DOUBLE * (cuts + 1)) * EIGEN * kept**3
        return found

    def size(self, grids: list[Grid], rows: int) -> int:
        if self.shared:
            return sum(12 * channels**2 for channels, _, _ in grids)
        room, directions = self._room(grids), DIRECTIONS[self.share > VARIANCE_WITH_COPIES]
        return round(sum(8 * dim * directions * min(rows, room(dim)) for dim in _dims(grids)))

    def empty(self, grids: list[Grid]) -> dict[str, Statistic]:
        if self.weights is not None and len(self.weights) != len(grids):
            raise SettingError(
                f"there are {len(self.weights)} weights for {len(grids)} layers; give one for each layer"
            )
        if self.shared:
            return {f"layer{index}": Moments.empty(channels) for index, (channels, _, _) in enumerate(grids)}
        room = self._room(grids)
        return {f"layer{index}": Subspace.empty(dim, _rows(room(dim))) for index, dim in enumerate(_dims(grids))}

    def leaves_out(self, grids: list[Grid]) -> int:
        if self.shared:
            return MANY
        return min(map(self._room(grids, CROSS_FITTED), _dims(grids)))  # more would be truncated

    def _room(self, grids: list[Grid], models: int = 1) -> Callable[[int], int]:
        """Returns a function from a vector's length to how many of them a subspace keeps without loss.

        Args:
            grids: of the layers, which share half of the free memory.
            models: that exist at one time.
        """
        half = (self.free_ or 0) / 2

        def held(size: int) -> int:
            return AT_THE_PEAK * models * sum(min(size, 4 * dim * ROOM) for dim in _dims(grids))

        # In steps, so that a little more or less free memory changes no result.
        memory = next((size for size in (MOST_MEMORY, MOST_MEMORY // 2) if held(size) <= half), MEMORY)
        return lambda dim: max(64, min(ROOM, memory // (4 * dim)))

    def batches(self, features: Features) -> Iterator[tuple[str, Tensor]]:
        for index, layer in enumerate(features):
            yield f"layer{index}", layer.movedim(1, -1).flatten(0, -2) if self.shared else layer.flatten(1)

    @property
    def subspaces_(self) -> list[Subspace]:
        """The statistic of each layer; of `shared` subspaces there are none."""
        return [own for own in self.statistics_.values() if isinstance(own, Subspace)]

    def layers(self) -> list[Layer]:
        """Returns what was learned of each layer."""
        found = []
        for index, (_, height, width) in enumerate(self.grids_):
            statistic = self.statistics_[f"layer{index}"]
            if isinstance(statistic, Moments):
                found.append(_shared(statistic, self.share))
            else:
                principal = cast(Subspace, statistic).finish(self.share)
                variance = principal.energy / (max(self.count, 1) * height * width)
                found.append(Layer(Projection(principal), len(principal.mixing), principal.kept, variance))
        return found

    def head(self) -> Head:
        if not self.count:
            raise SettingError(f"{self.name} has seen no images yet")
        layers = self.layers()
        return self.joined([layer.residual for layer in layers], [layer.variance for layer in layers])

    def joined(self, residuals: Sequence[nn.Module], variances: Sequence[float]) -> FREHead:
        """Returns the head with this detector's weights, power and way to join layers."""
        last = len(residuals) - 1
        weights = self.weights or [math.comb(last, index) for index in range(last + 1)]
        return FREHead(residuals, self.grids_, variances, weights, self.power, self.join)

    def rounding(self) -> float:
        if not self.shared:
            return 0.0
        shares = [0.0]
        for index, layer in enumerate(self.layers()):
            statistic = self.statistics_[f"layer{index}"]
            # A subspace of all dimensions leaves nothing, whatever the digits.
            if isinstance(statistic, Moments) and statistic.peak and layer.directions < len(statistic.mean):
                left = (1 - layer.kept) * layer.variance  # what the mean squared residual is
                shares.append(len(statistic.mean) * statistic.rounding() / max(left, TINY))
        return max(shares)

    def compact(self) -> None:
        """Keeps the directions that scoring uses, and others that hold `RESERVE` of the remaining variance.

        Of all further directions only the energy is kept. Later images are merged with what is kept; they may move
        directions of the reserve into the subspace.
        """
        for subspace in self.subspaces_:
            subspace.truncate(subspace.room, self.share + RESERVE * (1 - self.share))

    def summary(self) -> dict[str, Any]:
        layers = self.layers()
        told = {"directions": [layer.directions for layer in layers], "variance_kept": [layer.kept for layer in layers]}
        return {**told, "variance_asked": self.share}


def _shared(moments: Moments, share: float) -> Layer:
    """Returns a layer whose positions share one subspace, with the fewest directions that keep the share."""
    mean, covariance = moments.finish()
    values, vectors = torch.linalg.eigh(covariance)
    values, vectors = values.flip(0).clamp_min(0), vectors.flip(1)
    total = float(values.sum())
    if not total > 0:
        return Layer(SharedProjection(mean, vectors.T[:0]), 0, 1.0, 0.0)
    shares = values.cumsum(0) / total
    rank = min(int((shares < share).sum()) + 1, len(values))
    return Layer(SharedProjection(mean, vectors.T[:rank]), rank, float(shares[rank - 1]), total)


def _dims(grids: list[Grid]) -> list[int]:
    """Returns how many numbers each layer's features have."""
    return [channels * height * width for channels, height, width in grids]


def _rows(vectors: int) -> int:
    """Returns how many rows this many vectors need: each batch, of 16 or more on average, adds one for its mean."""
    return vectors + vectors // 16 + 1
