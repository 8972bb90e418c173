"""Heads are the modules that score: from feature maps to a coarse map and a score, and the parts of the map."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Part:
    """One part of a map: a layer, or several layers whose components are mixed.

    Attributes:
        layers: indices of its layers; more than one if components mix them.
        components: indices of its components, in the order of their maps; empty if the detector has none.
    """

    layers: tuple[int, ...]
    components: tuple[int, ...] = ()


class Head(nn.Module, ABC):
    """Computes a coarse anomaly map from feature maps, a score for each image, and the maps of the map's parts.

    Attributes:
        grid: height and width of the coarse map.
        parts: what the map is made of.
        adds_up: whether the maps of the parts, resized to the head's grid, add up to the coarse map; if not, they
            multiply to it.
    """

    grid: tuple[int, int]
    parts: list[Part]
    adds_up: bool = True

    @abstractmethod
    def forward(self, features: tuple[Tensor, ...]) -> Tensor:
        """Returns a map (B, h, w), higher where more anomalous, for feature maps (B, C_l, H_l, W_l)."""

    @abstractmethod
    def layers(self, features: tuple[Tensor, ...]) -> list[Tensor]:
        """Returns the map (B, h, w) of each part, which may have its own grid."""

    def map_and_layers(self, features: tuple[Tensor, ...]) -> tuple[Tensor, list[Tensor]]:
        """Returns what `forward` and `layers` return; a head that computes much for both overrides it."""
        return self(features), self.layers(features)

    def enlarge(self, shape: tuple[int, int], interpolation: str) -> None:  # most are coarse
        """Called once with the input's shape, before the head runs, so that it can make its map at that size."""

    def score(self, features: tuple[Tensor, ...], coarse: Tensor, full: Tensor) -> Tensor:
        """Returns a score for each image (B,): by default the maximum of the full map.

        Args:
            features: of each layer (B, C_l, H_l, W_l).
            coarse: the map (B, h, w) on the head's grid.
            full: this map resized to the input and smoothed, (B, H, W).
        """
        return full.amax((1, 2))


class ComponentsHead(Head):
    """A head in which the map of each part is a sum of components."""

    @abstractmethod
    def components(self, features: tuple[Tensor, ...]) -> list[Tensor]:
        """Returns for each part the maps (B, K, h, w) of its components, which add up to the map of the part."""

    def layers(self, features: tuple[Tensor, ...]) -> list[Tensor]:
        return [maps.sum(1) for maps in self.components(features)]


def fixed(tensor: Tensor) -> nn.Parameter:
    """Returns a constant of a head as a parameter, in float32."""
    return nn.Parameter(tensor.float().contiguous(), requires_grad=False)


def to_grid(maps: Tensor, grid: tuple[int, int]) -> Tensor:
    """Returns maps (B, h, w) resized to a grid, bilinearly."""
    if maps.shape[1:] == grid:
        return maps
    return F.interpolate(maps[:, None], size=grid, mode="bilinear", align_corners=False)[:, 0]
