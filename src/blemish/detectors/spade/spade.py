"""SPADE: distances from the nearest good images, and from the most similar positions in these."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from blemish.detectors.detector import Detector, Features, Grid
from blemish.detectors.head import Head
from blemish.detectors.spade.gallery import Gallery
from blemish.detectors.spade.head import SPADEHead
from blemish.detectors.spade.pyramid import Pyramid
from blemish.errors import SettingError
from blemish.expected import Kind, Whole
from blemish.statistics import Statistic

SEARCH = 2
"""How many times as long it takes to find the nearest of vectors as to multiply them."""


@dataclass(kw_only=True)
class SPADE(Detector):
    """Distance from the nearest good images, and of each position from the most similar positions in these.

    By Cohen & Hoshen 2020, "Sub-Image Anomaly Detection with Deep Pyramid Correspondences". The coarsest layer's mean
    over all positions stands for the image, and the score is its mean distance from the K nearest good images,
    1/K sum ||f_k - f||. The other layers are joined at each position, and the map is the mean distance from the kappa
    most similar of all positions of these K images, 1/kappa sum ||f_k - f(p)||. A single layer serves for both.

    Memory and the size of the model grow with the images: the features of every one are kept.

    Attributes:
        neighbours: number of nearest images K; all, if there are fewer. The paper has 50; `docs/detectors.md` has the
            measurements.
        correspondences: number kappa of most similar positions in these images together.
        side: largest number of positions along the longer side of the joined layers' grid; finer layers are averaged.
            Time grows with its fourth power.
    """

    name: ClassVar[str] = "spade"
    strides: ClassVar[tuple[int, ...]] = (4, 8, 16, 32)

    allowed: ClassVar[Mapping[str, Kind]] = {
        "neighbours": Whole(1, 1_000_000),
        "correspondences": Whole(1, 1_000_000),
        "side": Whole(1, 4096),
    }

    neighbours: int = 5
    correspondences: int = 1
    side: int = 32
    smoothing: float = 4.0
    interpolation: str = "bicubic"

    def empty(self, grids: list[Grid]) -> dict[str, Statistic]:
        pyramid = Pyramid.of(grids, self.side)
        return {
            "pooled": Gallery.empty(grids[pyramid.coarsest][0]),
            "joined": Gallery.empty(pyramid.positions * pyramid.dim),
        }

    def batches(self, features: Features) -> Iterator[tuple[str, Tensor]]:
        pyramid = Pyramid.of(self.grids_, self.side)
        yield "pooled", pyramid.pooled(features)
        yield "joined", pyramid.joined(features).flatten(1)  # (B, P · D)

    def head(self) -> Head:
        if not self.count:
            raise SettingError("spade has seen no images yet")
        pyramid = Pyramid.of(self.grids_, self.side)
        pooled, joined = (self.statistics_[name].finish() for name in ("pooled", "joined"))
        joined = joined.unflatten(1, (pyramid.positions, pyramid.dim))
        return SPADEHead(pyramid, pooled, joined, self.neighbours, self.correspondences)

    def memory(self, grids: list[Grid], images: int, batch: int) -> int:
        pyramid = Pyramid.of(grids, self.side)
        gallery = images * (pyramid.positions * (pyramid.dim + 1) + grids[pyramid.coarsest][0] + 1)
        found = min(self.correspondences, self.neighbours * pyramid.positions)
        batches = batch * pyramid.positions * (pyramid.positions + found * pyramid.dim)
        # The gallery, and copies of it while it grows, in the head and in the graph; for a batch the products with one
        # image, and the vectors that were found, with their differences.
        return 4 * (4 * gallery + 3 * batches)

    def operations(self, grids: list[Grid], rows: int, scored: int, models: int) -> float:
        pyramid = Pyramid.of(grids, self.side)
        near = min(self.neighbours, rows) * pyramid.positions**2 * pyramid.dim
        return 2.0 * SEARCH * scored * (near + rows * grids[pyramid.coarsest][0])

    def size(self, grids: list[Grid], rows: int) -> int:
        pyramid = Pyramid.of(grids, self.side)
        return 8 * rows * (pyramid.positions * pyramid.dim + grids[pyramid.coarsest][0])

    def summary(self) -> dict[str, Any]:
        pyramid = Pyramid.of(self.grids_, self.side)
        return {"vectors": self.count * pyramid.positions, "dimensions": pyramid.dim}
