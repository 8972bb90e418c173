"""The module that scores: feature maps in, a coarse map and a score out, and what the map is made of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Part:
    """What a map is made of, by layer.

    Attributes:
        layers: indices of the layers concerned, more than one where components mix them.
        components: indices of their components, in the order of their maps; empty where a detector has none.
    """

    layers: tuple[int, ...]
    components: tuple[int, ...] = ()


class Head(nn.Module, ABC):
    """From feature maps to a coarse map of anomaly, from both to one score an image, and back to what made them.

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
        """Returns a map (B, h, w), higher where more anomalous, of feature maps (B, C_l, H_l, W_l)."""

    @abstractmethod
    def layers(self, features: tuple[Tensor, ...]) -> list[Tensor]:
        """Returns for each part its map (B, h, w)."""

    def score(self, features: tuple[Tensor, ...], coarse: Tensor, full: Tensor) -> Tensor:
        """Returns a score an image (B,): the maximum of the full map, where a detector has no other.

        Args:
            features: of each layer (B, C_l, H_l, W_l).
            coarse: the map (B, h, w) on the head's grid.
            full: the same (B, H, W), resized to the input and smoothed.
        """
        return full.amax((1, 2))


class ComponentsHead(Head):
    """A head whose parts are sums of components."""

    @abstractmethod
    def components(self, features: tuple[Tensor, ...]) -> list[Tensor]:
        """Returns for each part the maps (B, K, h, w) of its components, which add up to the part's."""

    def layers(self, features: tuple[Tensor, ...]) -> list[Tensor]:
        return [maps.sum(1) for maps in self.components(features)]


def fixed(tensor: Tensor) -> nn.Parameter:
    """Returns a constant of a head, in float32."""
    return nn.Parameter(tensor.float().contiguous(), requires_grad=False)


def to_grid(maps: Tensor, grid: tuple[int, int]) -> Tensor:
    """Returns maps (B, h, w) on another layer's grid, bilinearly."""
    if maps.shape[1:] == grid:
        return maps
    return F.interpolate(maps[:, None], size=grid, mode="bilinear", align_corners=False)[:, 0]
