"""What all detectors share: the contract, and how their statistics become tensors by name."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blemish.errors import SettingError, ShapeError

Features = Sequence[Tensor]
Grid = tuple[int, int, int]
"""Channels, height and width of one layer's feature map."""


@dataclasses.dataclass(frozen=True)
class Part:
    """What a map is made of, by layer.

    Attributes:
        layers: indices of the layers concerned, more than one where components mix them.
        components: indices of their components, in the order of their maps; empty where a detector has none.
    """

    layers: tuple[int, ...]
    components: tuple[int, ...] = ()


class Head(nn.Module, ABC):
    """From feature maps to a coarse map of anomaly, from maps to one score an image, and back to what made them.

    Attributes:
        grid: height and width of the coarse map.
        parts: what the map is made of.
        adds_up: whether the maps of the parts, each on the head's grid, add up to the coarse map.
    """

    grid: tuple[int, int]
    parts: list[Part]
    adds_up: bool = True

    @abstractmethod
    def forward(self, features: tuple[Tensor, ...]) -> Tensor:
        """Feature maps (B, C_l, H_l, W_l) to a map (B, h, w) on the head's grid, higher where more anomalous."""

    def score(self, coarse: Tensor, full: Tensor) -> Tensor:
        """Maps (B, h, w) and (B, H, W), the second resized and smoothed, to scores (B,): the maximum of the second."""
        return full.amax((1, 2))

    def components(self, features: tuple[Tensor, ...]) -> list[Tensor]:
        """For each part the maps (B, K, h, w) of its components, which add up to the part's.

        Raises:
            SettingError: the detector has none.
        """
        raise SettingError("this detector has no components")

    def layers(self, features: tuple[Tensor, ...]) -> list[Tensor]:
        """For each part its map (B, h, w)."""
        return [maps.sum(1) for maps in self.components(features)]


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


def fixed(tensor: Tensor) -> nn.Parameter:
    """A constant of a head, in float32."""
    return nn.Parameter(tensor.float().contiguous(), requires_grad=False)


def to_grid(maps: Tensor, grid: tuple[int, int]) -> Tensor:
    """Maps (B, h, w) on another layer's grid, bilinearly."""
    if maps.shape[1:] == grid:
        return maps
    return F.interpolate(maps[:, None], size=grid, mode="bilinear", align_corners=False)[:, 0]
