"""FRE by a linear autoencoder: the same subspace as by principal components, found by steps along the gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from blemish.detectors.detector import Features, Grid
from blemish.detectors.fre.fre import FRE
from blemish.detectors.fre.linear_autoencoder import LinearAutoencoder
from blemish.detectors.head import Head
from blemish.errors import SettingError

METHODS = ("ae", "tied")


@dataclass(kw_only=True)
class FREAE(FRE):
    """A linear autoencoder a layer, trained on the mean squared error of its features flattened (FRE-AE, FRE-AEt).

    The number of directions is the one by which principal components keep the share `variance`, and the mean is theirs;
    the weights are found from random ones. Map and score are FRE's, of what the layers do not reconstruct.

    Attributes:
        method: `tied`, the decoder's weights are the encoder's, transposed; or `ae`, they are its own.
        epochs, batch, drawn, learning_rate, minutes, precision, patience, seed: how it is trained; see
            `training.Schedule`. With a `patience` it is judged by the loss on normal images that it is not trained on.
    """

    name: ClassVar[str] = "fre-ae"
    trains: ClassVar[bool] = True

    method: str = "tied"
    epochs: int = 500
    batch: int = 64
    drawn: int | None = None
    learning_rate: float = 1e-3
    minutes: float | None = None
    precision: str = "32-true"
    patience: int | None = 8
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.layers_: list[LinearAutoencoder] = []
        self.left_: list[float] = []
        self.settled_ = 0
        if self.method not in METHODS:
            raise SettingError(f"method {self.method!r} is not known; give ae or tied, or take detector fre for pca")

    def memory(self, grids: list[Grid], images: int, batch: int) -> int:
        # Beside the subspace: weights, gradients, and what Adam and the best so far keep of them, of both layers.
        directions = min(images, 256)
        weights = sum(2 * 4 * channels * height * width * directions for channels, height, width in grids)
        return super().memory(grids, images, batch) + 5 * weights

    def objective(self) -> nn.Module:
        principals = [subspace.finish(self.variance) for subspace in self.subspaces_]
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            self.layers_ = [
                LinearAutoencoder(len(principal.mean), len(principal.mixing), self.method == "tied")
                for principal in principals
            ]
        for layer, principal in zip(self.layers_, principals, strict=True):
            layer.centre(principal.mean)
        self.left_, self.settled_ = [0.0] * len(principals), 0
        return _Errors(self.layers_)

    @property
    def settles(self) -> bool:
        return True

    def settle(self, features: Features) -> None:
        with torch.inference_mode():
            for index, (own, layer) in enumerate(zip(self.layers_, features, strict=True)):
                self.left_[index] += float(own(layer.flatten(1)).square().sum())
        self.settled_ += len(features[0])

    def head(self) -> Head:
        if not self.layers_:
            raise SettingError("fre-ae has not been trained yet")
        areas = [height * width for _, height, width in self.grids_]
        left = [own / (max(self.settled_, 1) * area) for own, area in zip(self.left_, areas, strict=True)]
        variances = self.variances([subspace.finish(self.variance) for subspace in self.subspaces_])
        return self.joined(self.layers_, left, variances)

    def tensors(self) -> dict[str, Tensor]:
        weights = {
            f"autoencoder{index}.{name}": tensor
            for index, layer in enumerate(self.layers_)
            for name, tensor in layer.state_dict().items()
            if not (name == "decoder" and self.method == "tied")
        }
        left = torch.tensor(self.left_, dtype=torch.float64)
        return {**super().tensors(), "left": left, "settled": torch.tensor(self.settled_), **weights}

    def _restore(self, tensors: Mapping[str, Tensor]) -> None:
        super()._restore(tensors)
        self.left_, self.settled_ = tensors["left"].tolist(), int(tensors["settled"])
        self.layers_ = []
        for index in range(len(self.grids_)):
            prefix = f"autoencoder{index}."
            state = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
            directions, dim = state["encoder.weight"].shape
            state.setdefault("decoder", state["encoder.weight"])
            layer = LinearAutoencoder(dim, directions, self.method == "tied")
            layer.load_state_dict(state)
            self.layers_.append(layer)

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
