"""Checks of features before anything is learned from them: they must be finite, and not all the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from blemish.engines.stream import Chunk
from blemish.errors import DegenerateError
from blemish.images import Location

SAME = 1e-5
"""Features that differ by a smaller share of the largest one count as those of the same picture."""


@dataclass
class Variety:
    """Whether the features of any image differ from those of the first, by more than rounding.

    Attributes:
        count: images so far.
        found: whether two of them differ.
        first: the features of the first, one array (1, C_l, H_l, W_l) for each layer; empty once a difference is found.
    """

    count: int = 0
    found: bool = False
    first: list[NDArray[np.float32]] = field(default_factory=list, repr=False)

    def update(self, arrays: Sequence[NDArray[np.float32]]) -> None:
        """Takes in a batch, (B, C_l, H_l, W_l) for each layer."""
        self.count += len(arrays[0])
        if self.found or not len(arrays[0]):
            return
        self.first = self.first or [array[:1].copy() for array in arrays]
        if _differ(arrays, self.first):
            self.found, self.first = True, []

    def merge(self, other: Variety) -> Variety:
        """Returns that of both samples; neither of the two is changed."""
        both = bool(self.first and other.first) and _differ(other.first, self.first)
        found = self.found or other.found or both
        return Variety(self.count + other.count, found, [] if found else self.first or other.first)

    def check(self, root: str) -> None:
        """Raises `DegenerateError` if there were several images and all of them are the same."""
        if self.count > 1 and not self.found:
            raise DegenerateError(
                f"{root}: all {self.count} images to fit are the same picture, so nothing can be learned about how "
                "good images differ; give different ones"
            )


def check_finite(chunk: Chunk, paths: Sequence[Location]) -> None:
    """Raises `DegenerateError` unless all features of a chunk are finite; `paths` are those of all images."""
    if not all(np.isfinite(array).all() for array in chunk.arrays):
        raise DegenerateError(
            f"{paths[chunk.indices[0]]}: its features, or those of an image after it, are not finite; "
            "are the backbone's weights damaged?"
        )


def _differ(arrays: Sequence[NDArray[np.float32]], first: Sequence[NDArray[np.float32]]) -> bool:
    return any(
        bool(np.abs(array - own).max() > SAME * np.abs(own).max()) for array, own in zip(arrays, first, strict=True)
    )
