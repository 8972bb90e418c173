"""A network's name to a frozen torch module: uint8 images (B, H, W, 3) to the feature maps of chosen layers."""

from blemish.backbones.backbone import Backbone, Layer, layers_of_strides
from blemish.backbones.names import DEFAULT, PUBLISHED_LAYERS, canonical_name
from blemish.backbones.pixels import PIXELS, Pixels
from blemish.backbones.weights import find_weights, weights_file

__all__ = [
    "DEFAULT",
    "PIXELS",
    "PUBLISHED_LAYERS",
    "Backbone",
    "Layer",
    "Pixels",
    "canonical_name",
    "find_weights",
    "layers_of_strides",
    "weights_file",
]
