"""A network's name to a frozen torch module: uint8 images (B, H, W, 3) to the feature maps of chosen layers.

The names here need no torch; `backbones.backbone`, `backbones.pixels` and `backbones.weights` do.
"""

from blemish.backbones.layer import Layer
from blemish.backbones.names import DEFAULT, PIXELS, PUBLISHED_LAYERS, canonical_name

__all__ = ["DEFAULT", "PIXELS", "PUBLISHED_LAYERS", "Layer", "canonical_name"]
