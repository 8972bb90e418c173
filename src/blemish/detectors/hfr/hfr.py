"""HFR: what a decoder cannot reconstruct of a frozen backbone's layers from the coarsest of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from blemish.detectors.detector import Features, Grid
from blemish.detectors.head import Head, Part
from blemish.detectors.hfr.network import Decoder, Reconstruction, residuals
from blemish.detectors.power_mean import power_mean
from blemish.detectors.scoring import resizing_matrix
from blemish.detectors.trained import Trained
from blemish.errors import SettingError
from blemish.expected import Choice, Kind, Maybe, Number, Whole
from blemish.statistics import Statistic


@dataclass(kw_only=True)
class HFR(Trained):
    """A decoder learns on good images to reconstruct a frozen backbone's layers from the coarsest of them.

    The map is the sum over layers, each resized to the input, of half the squared distances of normalised features; the
    score is its power mean. It is trained by stochastic gradient descent with momentum, as in the paper.

    Attributes:
        width: channels inside the decoder's blocks, as a multiple of the layer's own. The paper does not give it.
        depth: blocks with a kernel of 3x3 in each of the decoder's levels; the paper's is 1.
        weighting: of the layers in the map: `area` divides each by its number of positions, as in the paper's eq. 9;
            `equal` does not.
        power: exponent of the power mean, 1 to 64; `None` takes the map's largest value, as the paper does.
        learning_rate: of SGD with momentum 0.9 and weight decay 1e-4, constant. The paper calls 0.4 the initial rate
            and does not say how it changes.
        epochs, batch, drawn, minutes, precision, patience, seed: how long it is trained; see `training.Schedule`. With
            a `patience` it is judged by the loss on good images that are held back. The paper gives neither epochs
            nor batch.
    """

    name: ClassVar[str] = "hfr"
    strides: ClassVar[tuple[int, ...]] = (8, 16, 32)

    allowed: ClassVar[Mapping[str, Kind]] = {
        "width": Number(0, 16, above=True),
        "depth": Whole(1, 8),
        "weighting": Choice("area", "equal"),
        "power": Maybe(Number(1, 64)),
    }

    width: float = 2.0
    depth: int = 1
    weighting: str = "area"
    power: float | None = 12.0
    epochs: int = 40
    batch: int = 8
    learning_rate: float = 0.4
    smoothing: float = 4.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.decoder_: Decoder | None = None

    def memory(self, grids: list[Grid], images: int, batch: int) -> int:
        # What a step keeps for its gradient: about three maps inside each block, and some outside.
        return sum(
            4 * self.batch * height * width * channels * round(3 * (self.depth + 2) * max(1.0, self.width) + 4)
            for channels, height, width in grids
        )

    def empty(self, grids: list[Grid]) -> dict[str, Statistic]:
        areas = [height * width for _, height, width in grids]
        if sorted(areas, reverse=True) != areas:
            raise SettingError(
                "hfr reconstructs from the coarsest layer; give --layers from the finest to the coarsest"
            )
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            self.decoder_ = Decoder(grids, self.width, self.depth)
        return {}

    def batches(self, features: Features) -> Iterator[tuple[str, Tensor]]:
        return iter(())

    @property
    def decoder(self) -> Decoder:
        """The network that is trained. Raises `SettingError` before the first features."""
        if self.decoder_ is None:
            raise SettingError("hfr has seen no features yet")
        return self.decoder_

    def networks(self) -> dict[str, nn.Module]:
        return {"decoder": self.decoder}

    def objective(self) -> nn.Module:
        return Reconstruction(self.decoder)

    def head(self) -> Head:
        return _HFRHead(self.decoder, self.grids_, self.weighting, self.power)

    def summary(self) -> dict[str, Any]:
        return {"parameters": sum(parameter.numel() for parameter in self.decoder.parameters())}


class _HFRHead(Head):
    def __init__(self, decoder: Decoder, grids: list[Grid], weighting: str, power: float | None) -> None:
        super().__init__()
        self.decoder = decoder
        self.power = power
        self.grids = [(height, width) for _, height, width in grids]
        self.parts = [Part((layer,)) for layer in range(len(grids))]
        areas = [height * width for height, width in self.grids]
        # Relative to the finest layer, so that scores are not tiny numbers.
        self.gains = [areas[0] / area if weighting == "area" else 1.0 for area in areas]
        self.enlarge(self.grids[0], "bilinear")

    def enlarge(self, shape: tuple[int, int], interpolation: str) -> None:
        """Resizes each layer to the input at once (eq. 9); by way of the finest layer, peaks would be cut off."""
        self.grid = shape
        for index, grid in enumerate(self.grids):
            sides = zip(grid, shape, strict=True)
            rows, columns = (torch.from_numpy(resizing_matrix(*side, interpolation)).float() for side in sides)
            self.register_buffer(f"rows{index}", rows)
            self.register_buffer(f"columns{index}", columns.T.contiguous())

    def forward(self, features: tuple[Tensor, ...]) -> Tensor:
        return self.map_and_layers(features)[0]

    def map_and_layers(self, features: tuple[Tensor, ...]) -> tuple[Tensor, list[Tensor]]:
        layers = self.layers(features)
        return torch.stack(layers).sum(0), layers

    def layers(self, features: tuple[Tensor, ...]) -> list[Tensor]:
        found = residuals(features, self.decoder(features[-1]))
        return [
            self.get_buffer(f"rows{index}") @ (gain * phi) @ self.get_buffer(f"columns{index}")
            for index, (gain, phi) in enumerate(zip(self.gains, found, strict=True))
        ]

    def score(self, features: tuple[Tensor, ...], coarse: Tensor, full: Tensor) -> Tensor:
        if self.power is None:
            return super().score(features, coarse, full)
        return power_mean(full, self.power)
