"""Scores and map statistics of good images, gathered one by one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from blemish.calibration.conformal import Calibration, default_box_rate
from blemish.calibration.suspicious import suspicious

T = TypeVar("T")

MOST = 10_000
"""Images that calibrate one model, at most; they can promise a rate of 0.01 %."""

ENOUGH = 1 << 20
"""About how many pixels of a map its median is taken from."""


@dataclass
class Gathered:
    """What calibration needs from good images that the model did not see; one item for each image.

    Attributes:
        scores: of the images.
        medians: of their maps.
        maxima: of their maps.
        typical: for each image a typical value of each layer's map, (L,); empty if the map is not made of several.
        highest: for each image the highest value of the same maps.
        names: of the images.
        digests: of their pixels, in hexadecimal.
        folds: of the cross-fit; 0 if the images were held out.
    """

    scores: list[float] = field(default_factory=list)
    medians: list[float] = field(default_factory=list)
    maxima: list[float] = field(default_factory=list)
    typical: list[list[float]] = field(default_factory=list)
    highest: list[list[float]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    folds: int = 0

    @classmethod
    def of(cls, calibration: Calibration) -> Gathered:
        """Returns what a calibration was made of."""
        return cls(
            calibration.scores.tolist(),
            calibration.medians.tolist(),
            calibration.maxima.tolist(),
            calibration.typical.tolist(),
            calibration.highest.tolist(),
            list(calibration.names),
            list(calibration.digests),
            calibration.folds,
        )

    def update(
        self,
        score: float,
        values: NDArray[np.float32],
        name: str = "",
        digest: str = "",
        layers: tuple[Sequence[float], Sequence[float]] = ((), ()),
    ) -> Gathered:
        """Takes in one image, in place: score, map (H, W), name, digest, and typical and highest values of layers."""
        step = max(1, math.isqrt(values.size // ENOUGH))
        self.scores.append(score)
        self.medians.append(float(np.median(values[::step, ::step])))
        self.maxima.append(float(values.max()))
        self.typical.append([float(value) for value in layers[0]])
        self.highest.append([float(value) for value in layers[1]])
        self.names.append(name)
        self.digests.append(digest)
        return self

    def merge(self, other: Gathered) -> Gathered:
        """Returns what was gathered from both samples; neither of the two is changed."""
        return Gathered(
            self.scores + other.scores,
            self.medians + other.medians,
            self.maxima + other.maxima,
            self.typical + other.typical,
            self.highest + other.highest,
            self.names + other.names,
            self.digests + other.digests,
            self.folds,
        )

    def part(self, items: Iterable[int]) -> Gathered:
        """Returns the items with these numbers, in this order."""
        order = list(items)

        def chosen(column: list[T]) -> list[T]:
            return [column[item] for item in order]

        return Gathered(
            chosen(self.scores),
            chosen(self.medians),
            chosen(self.maxima),
            chosen(self.typical),
            chosen(self.highest),
            chosen(self.names),
            chosen(self.digests),
            self.folds,
        )

    def suspicious(self) -> list[str]:
        """Returns the names of images that look anomalous themselves, the worst first; see `suspicious.suspicious`."""
        found = np.flatnonzero(suspicious(np.asarray(self.scores, np.float64)))
        return [self.names[index] for index in sorted(found.tolist(), key=lambda index: -self.scores[index])]

    def __len__(self) -> int:
        return len(self.scores)

    def finish(self, rate: float, box_rate: float | None = None) -> Calibration:
        """Returns the calibration at a false-alarm rate and a box rate, by default 10 % or the lowest possible one.

        If there are more than `MOST` images, it keeps those with the smallest digests: a random sample that depends
        neither on their order nor on how they were divided.

        Raises:
            SettingError: the images are too few to promise a rate.
        """
        kept = list(range(len(self)))
        if len(self) > MOST:
            kept = sorted(kept, key=self.digests.__getitem__)[:MOST]
        order = self.part(sorted(kept, key=self.scores.__getitem__))
        if box_rate is None:
            box_rate = default_box_rate(len(order))
        return Calibration(
            np.asarray(order.scores, np.float64),
            np.asarray(order.medians, np.float64),
            np.asarray(order.maxima, np.float64),
            rate,
            box_rate,
            names=tuple(order.names),
            typical=np.asarray(order.typical, np.float64).reshape(len(order), -1),
            highest=np.asarray(order.highest, np.float64).reshape(len(order), -1),
            digests=tuple(order.digests),
            folds=self.folds,
        )
