"""All that decides what a model computes, and the files that hold it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from blemish.images import Geometry

if TYPE_CHECKING:
    from torch import Tensor

    from blemish.detectors import Detector

LEARNED, FEATURES, SCORING = "learned.safetensors", "features.xml", "scoring.xml"
GRAPHS = (FEATURES, "features.bin", SCORING, "scoring.bin")
"""Files of a saved model: what was learned; and the graphs, which a model that scores by gradients does not have."""


@dataclass(frozen=True)
class Recipe:
    """All that decides what a model computes, but for the images."""

    detector: str
    settings: dict[str, Any]
    backbone: str
    layers: tuple[int | str, ...]
    geometry: Geometry
    seed: int


@dataclass(frozen=True)
class Learned:
    """The fitted detector, and the backbone's weights by parameter name."""

    detector: Detector
    weights: Mapping[str, Tensor]
