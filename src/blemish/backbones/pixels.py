"""The images themselves as the only layer, for detectors that learn their own features."""

from __future__ import annotations

from torch import Tensor, nn

from blemish.backbones.layer import Layer


class PixelBackbone(nn.Module):
    """uint8 (B, H, W, 3) to one map (B, 3, H, W) between 0 and 1. There are no weights."""

    layers = ("rgb",)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return (images.permute(0, 3, 1, 2).float() / 255,)

    def shapes(self, height: int, width: int) -> tuple[Layer, ...]:
        """Returns the shape of the one layer, which is as large as the images."""
        return (Layer("rgb", 3, height, width),)
