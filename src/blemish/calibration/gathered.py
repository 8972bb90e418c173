"""Scores and map statistics of normal images, gathered one by one."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from blemish.calibration.conformal import Calibration, default_box_rate
from blemish.calibration.suspicious import suspicious

ENOUGH = 1 << 20
"""About how many pixels of a map its median is taken from."""


@dataclass
class Gathered:
    """What calibration needs from normal images that the model did not see; one item for each image.

    Attributes:
        scores: of the images.
        medians: of their maps.
        maxima: of their maps.
        names: of the images.
        folds: of the cross-fit; 0 if the images were held out.
    """

    scores: list[float] = field(default_factory=list)
    medians: list[float] = field(default_factory=list)
    maxima: list[float] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    folds: int = 0

    def update(self, score: float, values: NDArray[np.float32], name: str = "") -> Gathered:
        """Takes in one image's score, map (H, W) and name, in place."""
        step = max(1, math.isqrt(values.size // ENOUGH))
        self.scores.append(score)
        self.medians.append(float(np.median(values[::step, ::step])))
        self.maxima.append(float(values.max()))
        self.names.append(name)
        return self

    def merge(self, other: Gathered) -> Gathered:
        """Returns what was gathered from both samples; neither of the two is changed."""
        return Gathered(
            self.scores + other.scores,
            self.medians + other.medians,
            self.maxima + other.maxima,
            self.names + other.names,
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

        Raises:
            SettingError: the images are too few to promise a rate.
        """
        if box_rate is None:
            box_rate = default_box_rate(len(self))
        order = np.argsort(self.scores, kind="stable")
        scores, medians, maxima = (
            np.asarray(values, np.float64)[order] for values in (self.scores, self.medians, self.maxima)
        )
        names = tuple(self.names[index] for index in order.tolist())
        return Calibration(scores, medians, maxima, rate, box_rate, names=names, folds=self.folds)
