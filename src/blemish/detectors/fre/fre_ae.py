"""FRE by a linear autoencoder: the same subspace as by principal components, found by gradient descent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from blemish.detectors.detector import Features, Grid
from blemish.detectors.fre.fre import FRE
from blemish.detectors.fre.linear_autoencoder import LinearAutoencoder
from blemish.detectors.head import Head
from blemish.detectors.trained import Trained
from blemish.errors import SettingError
from blemish.expected import Choice, Kind, Maybe, Whole
from blemish.statistics import Principal, Statistic, Subspace, Sums

METHODS = ("ae", "tied")

SAMPLE = 300
"""The number of images whose principal components decide how many directions there are; drawn by the seed."""

NEAR = 1.3
"""Training ends at this multiple of the loss of principal components, if that loss is known. With a constant learning
rate the loss hardly falls further, and maps and scores no longer change (`benchmarks/fre_ae.py`)."""


@dataclass(kw_only=True)
class FREAE(FRE, Trained):
    """A linear autoencoder for each layer, trained on the mean squared error of its features (FRE-AE, FRE-AEt).

    It needs no principal components of the data set, which may be larger than the memory. Map and score are those of
    FRE, computed from what the autoencoders do not reconstruct. The weights start at random.

    Attributes:
        method: `tied`, where the decoder's weights are the encoder's, transposed; or `ae`, where it has its own.
        directions: of each layer's subspace; `None` takes as many as principal components of `SAMPLE` images need to
            keep the share `variance`. For more images, more directions would be needed.
        epochs, batch, drawn, learning_rate, minutes, precision, patience, seed: how it is trained; see
            `training.Schedule`. With a `patience` it is judged by the loss on some of its training images, and also
            ends when this loss is at most `NEAR` times that of principal components, which is known if all images are
            in the sample.
    """

    name: ClassVar[str] = "fre-ae"
    holds_back: ClassVar[bool] = False  # the goal is the optimum on the images that it is trained on

    allowed: ClassVar[Mapping[str, Kind]] = {"method": Choice(*METHODS), "directions": Maybe(Whole(1, 1_000_000))}

    method: str = "tied"
    directions: int | None = None
    epochs: int = 500
    batch: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        self.layers_: list[LinearAutoencoder] = []
        if self.shared:
            raise SettingError("fre-ae has one subspace for a whole layer; leave out shared, or use the detector fre")

    def memory(self, grids: list[Grid], images: int, batch: int) -> int:
        directions = self.directions or min(images, SAMPLE)
        dims = [channels * height * width for channels, height, width in grids]
        sample = 0 if self.directions else min(images, SAMPLE)
        # Weights, gradients, Adam's two moments and the best weights, of encoder and decoder; and the mean.
        return sum(4 * dim * (5 * 2 * min(directions, dim) + 2 * sample + 4) for dim in dims)

    def empty(self, grids: list[Grid]) -> dict[str, Statistic]:
        layers = range(len(grids))
        dims = [channels * height * width for channels, height, width in grids]
        found: dict[str, Statistic] = {f"mean{index}": Sums.empty(dims[index]) for index in layers}
        if self.directions is None:
            found |= {f"layer{index}": Subspace.empty(dims[index], 2 * SAMPLE) for index in layers}
        super().empty(grids)  # refuses weights that do not fit
        return found | {"left": Sums.empty(len(grids)), "variance": Sums.empty(len(grids))}

    def batches(self, features: Features) -> Iterator[tuple[str, Tensor]]:
        for index, layer in enumerate(features):
            vectors = layer.flatten(1)
            yield f"mean{index}", vectors
            if self.directions is None and self.count < SAMPLE:
                yield f"layer{index}", vectors[: SAMPLE - self.count]

    def networks(self) -> dict[str, nn.Module]:
        return {f"autoencoder{index}": layer for index, layer in enumerate(self.layers_)}

    @property
    def means_(self) -> list[Tensor]:
        """The mean features (D,) of each layer."""
        return [self.statistics_[f"mean{index}"].finish().float() for index in range(len(self.grids_))]

    def objective(self) -> nn.Module:
        means = self.means_
        if self.directions is None:
            directions = [len(principal.mixing) for principal in self._principals()]
        else:
            directions = [min(self.directions, len(mean)) for mean in means]
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            self.layers_ = [
                LinearAutoencoder(len(mean), count, self.method == "tied")
                for mean, count in zip(means, directions, strict=True)
            ]
        for layer, mean in zip(self.layers_, means, strict=True):
            layer.centre(mean)
        return _Errors(self.layers_)

    def _principals(self) -> list[Principal]:
        """Returns the principal components of the sample, for each layer; none if `directions` were given."""
        return [subspace.finish(self.share) for subspace in self.subspaces_]

    def enough(self) -> float | None:
        principals = self._principals()
        if not principals or self.count > SAMPLE:
            return None
        losses = [(1 - own.kept) * own.energy / (max(self.count, 1) * len(own.mean)) for own in principals]
        return -NEAR * sum(losses)

    def settle(self, batches: Iterable[Features]) -> None:
        left, variance = (Sums.empty(len(self.grids_)) for _ in range(2))
        with torch.inference_mode():
            for features in batches:
                vectors = [layer.flatten(1) for layer in features]
                own = zip(self.layers_, vectors, strict=True)
                pairs = [(layer(batch), batch - layer.mean) for layer, batch in own]
                left.update(torch.stack([residual.square().sum(1) for residual, _ in pairs], 1))  # (B, layers)
                variance.update(torch.stack([centred.square().sum(1) for _, centred in pairs], 1))
        self.statistics_ |= {"left": left, "variance": variance}

    def head(self) -> Head:
        if not self.layers_:
            raise SettingError("fre-ae has not been trained yet")
        areas = [height * width for _, height, width in self.grids_]
        energies = self.statistics_["variance"].finish().tolist()
        return self.joined(self.layers_, [own / area for own, area in zip(energies, areas, strict=True)])

    def compact(self) -> None:
        """Drops the sample, whose principal components said how many directions there are."""
        for name, statistic in self.statistics_.items():
            if isinstance(statistic, Subspace):
                self.statistics_[name] = Subspace.empty(len(statistic.mean))

    def restore(self, grids: list[Grid], tensors: Mapping[str, Tensor]) -> FREAE:
        shapes = [tensors[f"autoencoder{index}.encoder.weight"].shape for index in range(len(grids))]
        self.layers_ = [LinearAutoencoder(dim, directions, self.method == "tied") for directions, dim in shapes]
        return super().restore(grids, tensors)

    def summary(self) -> dict[str, Any]:
        told = self.statistics_["left"].finish() / self.statistics_["variance"].finish().clamp_min(1e-300)
        return {"directions": [len(layer.decoder) for layer in self.layers_], "variance_kept": (1 - told).tolist()}


class _Errors(nn.Module):
    """The loss: the sum over layers, which share no weights, of the mean squared error."""

    def __init__(self, layers: Sequence[LinearAutoencoder]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, features: Sequence[Tensor]) -> dict[str, Tensor]:
        terms = [own(layer.flatten(1)).square().mean() for own, layer in zip(self.layers, features, strict=True)]
        return {"loss": torch.stack(terms).sum(), **{f"layer{number}": term for number, term in enumerate(terms, 1)}}
