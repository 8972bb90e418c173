"""Frozen networks by name: uint8 images (B, H, W, 3) to the feature maps of chosen layers.

What is imported here needs no torch. The torch modules are in `backbones.backbone` and `backbones.pixels`, the weights
in `backbones.weights`.
"""

from blemish.backbones.layer import Layer, Normalisation
from blemish.backbones.names import DEFAULT, PIXELS, PUBLISHED_LAYERS, architecture, canonical_name, side_step

__all__ = [
    "DEFAULT",
    "PIXELS",
    "PUBLISHED_LAYERS",
    "Layer",
    "Normalisation",
    "architecture",
    "canonical_name",
    "side_step",
]
