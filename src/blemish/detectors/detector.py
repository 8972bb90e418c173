"""What all detectors share: the contract, and how their statistics become tensors by name."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from blemish.detectors.head import Head
from blemish.errors import SettingError, ShapeError

Features = Sequence[Tensor]
Grid = tuple[int, int, int]
"""Channels, height and width of one layer's feature map."""


@dataclasses.dataclass(kw_only=True)
class Detector(ABC):
    """Settings that every detector has.

    Attributes:
        smoothing: standard deviation of the Gaussian filter over the map, in pixels at an input of 224; it grows in
            proportion to the input's shorter side. 0 is no filter.
        interpolation: `nearest`, `bilinear` or `bicubic`, from the coarse map to the input.
    """

    name: ClassVar[str]
    strides: ClassVar[tuple[int, ...]]
    """Strides of the layers taken by default."""
    sees_pixels: ClassVar[bool] = False
    """Whether it takes the images themselves and not a backbone's features."""
    trains: ClassVar[bool] = False
    """Whether it is trained, by steps along a gradient, after its one pass over the images."""

    smoothing: float = 0.0
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        self.grids_: list[Grid] = []
        if not 0 <= self.smoothing <= 100:
            raise SettingError(f"smoothing {self.smoothing} is out of range; give 0 to 100 pixels")
        if self.interpolation not in {"nearest", "bilinear", "bicubic"}:
            raise SettingError(f"interpolation {self.interpolation!r} is not known; give nearest, bilinear or bicubic")

    @property
    def needs_gradients(self) -> bool:
        """Whether its scoring takes gradients, which torch alone can do."""
        return False

    @classmethod
    def setting_names(cls) -> list[str]:
        return [field.name for field in dataclasses.fields(cls)]

    def settings(self) -> dict[str, Any]:
        """The settings as JSON can hold them."""
        return dataclasses.asdict(self)

    def update(self, features: Features) -> Detector:
        """Takes in the features of one batch of normal images, and returns the detector.

        Raises:
            ShapeError: other layers than those of earlier batches.
        """
        grids = [(f.shape[1], f.shape[2], f.shape[3]) for f in features]
        if not self.grids_:
            self._start(grids)
            self.grids_ = grids
        if grids != self.grids_:
            raise ShapeError(f"features of shapes {grids} do not fit a detector fitted on {self.grids_}")
        self._take_in(features)
        return self

    @property
    @abstractmethod
    def count(self) -> int:
        """How many images were taken in."""

    @abstractmethod
    def head(self) -> Head:
        """The scoring module.

        Raises:
            SettingError: too few images were taken in.
        """

    @abstractmethod
    def memory(self, grids: list[Grid], images: int, batch: int) -> int:
        """Bytes, about, that a fit holds at its peak, its head included, on so many images with such layers."""

    @abstractmethod
    def _start(self, grids: list[Grid]) -> None:
        """Empty statistics for layers of these shapes."""

    @abstractmethod
    def _take_in(self, features: Features) -> None:
        """One batch into the statistics."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """What was learned, by name."""

    @abstractmethod
    def _restore(self, tensors: Mapping[str, Tensor]) -> None:
        """The inverse of `tensors`, after `_start`."""

    def restore(self, grids: list[Grid], tensors: Mapping[str, Tensor]) -> Detector:
        """What `tensors` gave for layers of these shapes, learned again."""
        self._start(grids)
        self.grids_ = grids
        self._restore(tensors)
        return self

    def objective(self) -> nn.Module:
        """Module to train: a batch of features to the terms of its loss, of which `loss` is minimised."""
        raise NotImplementedError(f"{self.name} is not trained")

    @property
    def settles(self) -> bool:
        """Whether, once it is trained, it has to `settle`."""
        return False

    def judged_map(self, features: Features) -> Tensor:
        """Map (B, h, w) of a batch, as the detector stands, by which its training is judged."""
        raise NotImplementedError(f"{self.name} is not trained")

    def settle(self, features: Features) -> None:
        """Called after training with normal batches, so the detector learns how its own maps look on normal images."""
        raise NotImplementedError(f"{self.name} is not trained")

    def reconstruct(self, features: Features) -> Tensor | None:
        """Reconstructed images (B, 3, H, W) between 0 and 1; `None` where the detector does not reconstruct."""
        return None

    def sample(self, count: int, seed: int) -> Tensor:
        """Images (count, 3, H, W) between 0 and 1, drawn from the detector's prior over images.

        Raises:
            SettingError: it has none.
        """
        raise SettingError(f"{self.name} has no prior to draw images from; fit vae or vae-grf")

    def compact(self) -> None:  # noqa: B027  # most have nothing to drop
        """Drops what scoring does not need, at the price of further updates that are exact no longer."""

    def summary(self) -> dict[str, Any]:
        """What a reader of the model may want to know of what was learned, as JSON can hold it."""
        return {}


def stored(statistic: Any, prefix: str) -> dict[str, Tensor]:
    """The fields of a statistic as tensors, by `prefix.field`."""
    values = {field.name: getattr(statistic, field.name) for field in dataclasses.fields(statistic)}
    return {
        f"{prefix}.{name}": value.contiguous() if isinstance(value, Tensor) else torch.tensor(value)
        for name, value in values.items()
    }
