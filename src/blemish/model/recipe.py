"""All that decides what a model computes, and what it learned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from blemish.backbones import PIXELS, Layer, Normalisation
from blemish.errors import SettingError, as_count
from blemish.images import Geometry

if TYPE_CHECKING:
    from torch import Tensor, nn

    from blemish.detectors import Detector
    from blemish.detectors.scoring import Scoring

LARGEST_SEED = (1 << 32) - 1


def check_seed(seed: object) -> int:
    """Returns a seed as an int. Raises `SettingError` if it is no whole number, or out of range."""
    found = as_count("seed", seed)
    if not 0 <= found <= LARGEST_SEED:
        raise SettingError(f"seed {found} is out of range; give 0 to {LARGEST_SEED}")
    return found


@dataclass(frozen=True)
class Recipe:
    """All that decides what a model computes, except for the images.

    Attributes:
        detector: its name.
        settings: of the detector, by name.
        backbone: timm's name, with a tag if one was asked for, or `pixels`.
        normalisation: of the pixels, that of the backbone's weights; `None` for `pixels`.
        layers: as they were asked for: levels, or names of modules.
        shapes: of the layers, at the model's input size.
        geometry: how an image becomes the model's input.
        copies: number of shifted copies of each image, from which the detector learns too.
        seed: of the split, of the hold-out and the folds, of the copies, and of what the detector draws.
    """

    detector: str
    settings: dict[str, Any]
    backbone: str
    normalisation: Normalisation | None
    layers: tuple[int | str, ...]
    shapes: tuple[Layer, ...]
    geometry: Geometry
    copies: int
    seed: int

    @property
    def backbone_and_layers(self) -> str:
        """Both in words: `resnet18, layers 2, 3`; the backbone alone if it has no layers."""
        layers = ", ".join(map(str, self.layers))
        return f"{self.backbone}, layer{'s' * (len(self.layers) > 1)} {layers}" if layers else self.backbone

    @property
    def grids(self) -> list[tuple[int, int, int]]:
        """Channels, height and width of each layer."""
        return [layer.grid for layer in self.shapes]

    def network(self, weights: Mapping[str, Tensor]) -> nn.Module:
        """Returns the frozen backbone in torch, with weights that a fit has kept.

        Raises:
            BlemishError: the weights are of another backbone.
        """
        from blemish.backbones.backbone import Backbone
        from blemish.backbones.pixels import PixelBackbone

        if self.backbone == PIXELS:
            return PixelBackbone()
        return Backbone(self.backbone, self.layers, weights, self.geometry.shape, self.normalisation)


@dataclass(frozen=True)
class Learned:
    """The fitted detector, the backbone's weights by parameter name, and the shape (H, W) of the model's input."""

    detector: Detector
    weights: Mapping[str, Tensor]
    shape: tuple[int, int]

    @cached_property
    def scoring(self) -> Scoring:
        """The scoring module in torch, on the CPU."""
        from blemish.detectors.scoring import Scoring

        return Scoring(self.detector, self.shape)
