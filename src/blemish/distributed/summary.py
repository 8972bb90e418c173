"""The summary of a shard: the statistics of the detector that learned from its images, and a report of the images."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from blemish.calibration import Gathered
from blemish.engines.features import Variety
from blemish.model import Recipe

if TYPE_CHECKING:
    from blemish.detectors import Detector


Packed = Mapping[str, NDArray[np.generic]]
"""What a detector learned, by name: Ray hands arrays from process to process without a copy."""

NUMBERED = ("digests", "rows", "bad")
"""What a report has by the numbers of images."""


@dataclass(frozen=True)
class Report:
    """What is known of the images of a shard, or of several.

    Attributes:
        digests: of the images that were learned from, by number, in order.
        rows: of features that each gave, by number: itself or its tiles, and the shifted copies of these.
        bad: why others cannot be read, by number.
        gathered: scores by a model that did not see them, if they were to be scored.
        variety: of their features.
    """

    digests: dict[int, str] = field(default_factory=dict)
    rows: dict[int, int] = field(default_factory=dict)
    bad: dict[int, str] = field(default_factory=dict)
    gathered: Gathered = field(default_factory=Gathered)
    variety: Variety = field(default_factory=Variety)

    def merge(self, other: Report) -> Report:
        """Returns the report of both, this one's images first."""
        return Report(
            self.digests | other.digests,
            self.rows | other.rows,
            self.bad | other.bad,
            self.gathered.merge(other.gathered),
            self.variety.merge(other.variety),
        )

    def content(self) -> dict[str, Any]:
        """Returns the report as JSON can hold it, without the features in `variety.first`."""
        content = asdict(replace(self, variety=replace(self.variety, first=[])))
        for name in NUMBERED:
            content[name] = {str(number): told for number, told in content[name].items()}
        return content

    @classmethod
    def from_content(cls, content: dict[str, Any]) -> Report:
        """Returns the report that gave this content. Raises `KeyError`, `TypeError` or `ValueError` if it is none."""
        told = {name: {int(number): value for number, value in content[name].items()} for name in NUMBERED}
        return cls(**told, gathered=Gathered(**content["gathered"]), variety=Variety(**content["variety"]))


def empty_detector(recipe: Recipe) -> Detector:
    """Returns the recipe's detector, started on its layers and without images."""
    from blemish.detectors import make_detector

    detector = make_detector(recipe.detector, recipe.settings)
    detector.start(recipe.grids)
    return detector


def pack(detector: Detector) -> Packed:
    """Returns what a detector learned; the arrays share its memory."""
    return {name: tensor.contiguous().numpy() for name, tensor in detector.tensors().items()}


def unpack(recipe: Recipe, packed: Packed) -> Detector:
    """Returns the recipe's detector that learned this. It shares the arrays' memory, so it must not be changed."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch's, that arrays from another process cannot be written to
        tensors = {name: torch.from_numpy(array) for name, array in packed.items()}
    return empty_detector(recipe).restore(recipe.grids, tensors)
