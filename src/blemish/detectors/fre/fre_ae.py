"""FRE by a linear autoencoder: the same subspace as by principal components, found by gradient descent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
from blemish.statistics import Statistic, Sums

METHODS = ("ae", "tied")


@dataclass(kw_only=True)
class FREAE(FRE, Trained):
    """A linear autoencoder for each layer, trained on the mean squared error of its features (FRE-AE, FRE-AEt).

    It has as many directions as principal components need to keep the share `variance`, and their mean; the weights
    start at random. Map and score are those of FRE, from what the autoencoders do not reconstruct.

    Attributes:
        method: `tied`, where the decoder's weights are the encoder's, transposed; or `ae`, where it has its own.
        epochs, batch, drawn, learning_rate, minutes, precision, patience, seed: how it is trained; see
            `training.Schedule`. With a `patience` it is judged by the loss on normal images that are held back.
    """

    name: ClassVar[str] = "fre-ae"

    method: str = "tied"
    epochs: int = 500
    batch: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        self.layers_: list[LinearAutoencoder] = []
        if self.method not in METHODS:
            raise SettingError(f"method {self.method!r} is not known; give ae or tied, or take detector fre for pca")

    def memory(self, grids: list[Grid], images: int, batch: int) -> int:
        # Besides the subspace: weights, gradients, Adam's two moments and the best weights, of encoder and decoder.
        directions = min(images, 256)
        weights = sum(2 * 4 * channels * height * width * directions for channels, height, width in grids)
        return super().memory(grids, images, batch) + 5 * weights

    def empty(self, grids: list[Grid]) -> dict[str, Statistic]:
        return {**super().empty(grids), "left": Sums.empty(len(grids))}

    def networks(self) -> dict[str, nn.Module]:
        return {f"autoencoder{index}": layer for index, layer in enumerate(self.layers_)}

    def objective(self) -> nn.Module:
        principals = [subspace.finish(self.share) for subspace in self.subspaces_]
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            self.layers_ = [
                LinearAutoencoder(len(principal.mean), len(principal.mixing), self.method == "tied")
                for principal in principals
            ]
        for layer, principal in zip(self.layers_, principals, strict=True):
            layer.centre(principal.mean)
        return _Errors(self.layers_)

    def settle(self, batches: Iterable[Features]) -> None:
        self.statistics_["left"] = Sums.empty(len(self.grids_))
        with torch.inference_mode():
            for features in batches:
                residuals = [own(layer.flatten(1)) for own, layer in zip(self.layers_, features, strict=True)]
                left = torch.stack([residual.square().sum(1) for residual in residuals], 1)  # (B, layers)
                self.statistics_["left"].update(left)

    def head(self) -> Head:
        if not self.layers_:
            raise SettingError("fre-ae has not been trained yet")
        areas = [height * width for _, height, width in self.grids_]
        means = self.statistics_["left"].finish().tolist()
        left = [own / area for own, area in zip(means, areas, strict=True)]
        variances = self.variances([subspace.finish(self.share) for subspace in self.subspaces_])
        return self.joined(self.layers_, left, variances)

    def restore(self, grids: list[Grid], tensors: Mapping[str, Tensor]) -> FREAE:
        shapes = [tensors[f"autoencoder{index}.encoder.weight"].shape for index in range(len(grids))]
        self.layers_ = [LinearAutoencoder(dim, directions, self.method == "tied") for directions, dim in shapes]
        return super().restore(grids, tensors)

    def summary(self) -> dict[str, Any]:
        return {"directions": [len(layer.decoder) for layer in self.layers_]}


class _Errors(nn.Module):
    """The loss: the sum over layers, which share no weights, of the mean squared error."""

    def __init__(self, layers: Sequence[LinearAutoencoder]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, features: Sequence[Tensor]) -> dict[str, Tensor]:
        terms = [own(layer.flatten(1)).square().mean() for own, layer in zip(self.layers, features, strict=True)]
        return {"loss": torch.stack(terms).sum(), **{f"layer{number}": term for number, term in enumerate(terms, 1)}}
