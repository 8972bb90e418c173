"""The module that scores: feature maps in, a coarse map out, and what that map is made of."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod

from torch import Tensor, nn
from torch.nn import functional as F

from blemish.errors import SettingError


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


def fixed(tensor: Tensor) -> nn.Parameter:
    """A constant of a head, in float32."""
    return nn.Parameter(tensor.float().contiguous(), requires_grad=False)


def to_grid(maps: Tensor, grid: tuple[int, int]) -> Tensor:
    """Maps (B, h, w) on another layer's grid, bilinearly."""
    if maps.shape[1:] == grid:
        return maps
    return F.interpolate(maps[:, None], size=grid, mode="bilinear", align_corners=False)[:, 0]
