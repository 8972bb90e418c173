"""From held-out normal images alone: a threshold with a stated false-alarm rate, p-values, and a fixed display scale.

Split conformal prediction (Papadopoulos et al. 2002; Vovk, Gammerman & Shafer 2005): where the held-out images and a
new normal image are exchangeable, the new one's score exceeds the threshold with a probability of at most the stated
rate, whatever the scores' distribution. Nothing is assumed of anomalies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blemish.errors import SettingError

ROUNDING = 1e-4
"""Share of itself by which a score must exceed another to count as higher, since engines round differently."""


@dataclass(frozen=True)
class Calibration:
    """What n held-out normal images say about scores, at a false-alarm rate. `replace(calibration, rate=0.05)` is the
    same at another rate.

    Attributes:
        scores: of the images, ascending (n,).
        medians: of their maps, in the same order (n,).
        maxima: of their maps, in the same order (n,).
        rate: the stated false-alarm rate.

    Raises:
        SettingError: n scores cannot promise this rate.
    """

    scores: NDArray[np.float64]
    medians: NDArray[np.float64]
    maxima: NDArray[np.float64]
    rate: float

    def __post_init__(self) -> None:
        if not 1 <= self._rank <= len(self.scores):
            raise SettingError(f"{len(self.scores)} held-out scores cannot promise a rate of {self.rate:g}")

    @cached_property
    def threshold(self) -> float:
        """The ceil((n + 1)(1 - rate))-th smallest held-out score, and `ROUNDING` of it; an image is anomalous above."""
        return float(_rounded_up(self.scores)[self._rank - 1])

    @cached_property
    def display(self) -> tuple[float, float]:
        """Map values drawn as the bottom and the top of the colour scale, for every image alike.

        The scale runs from the typical value of a normal map to twice as far as the largest values of normal maps, all
        but the share `rate` of them: what a good part shows stays in the lower half of the colours.
        """
        low = float(np.median(self.medians))
        high = float(np.quantile(self.maxima, 1 - self.rate, method="higher"))
        return low, low + 2 * max(high - low, 1e-6 * max(abs(low), 1.0))

    @property
    def map_threshold(self) -> float:
        """The middle of the display scale: all but the share `rate` of held-out images have no value above it."""
        return (self.display[0] + self.display[1]) / 2

    @property
    def _rank(self) -> int:
        return math.ceil((len(self.scores) + 1) * (1 - self.rate) - 1e-9)  # 20 · 0.95 must not round up to 20

    def false_alarms_by_chance(self, normal: int, coverage: float = 0.95) -> tuple[int, int]:
        """How many false alarms among `normal` new normal images are nothing unusual: the central `coverage` of them.

        With n held-out scores and the k-th as threshold, the count is beta-binomial with parameters n + 1 - k and k:
        the held-out images are a sample too, and their chance counts as well as that of the new ones.
        """
        from scipy.stats import betabinom

        count = betabinom(normal, len(self.scores) + 1 - self._rank, self._rank)
        return int(count.ppf((1 - coverage) / 2)), int(count.ppf((1 + coverage) / 2))

    def p_values(self, scores: ArrayLike) -> NDArray[np.float64]:
        """(1 + #{held-out scores >= s}) / (n + 1) for each score s; scores that differ by `ROUNDING` are equal."""
        held_out = _rounded_up(self.scores)
        at_least = len(held_out) - np.searchsorted(held_out, np.asarray(scores, np.float64), side="left")
        return np.asarray((1 + at_least) / (len(self.scores) + 1), np.float64)


def _rounded_up(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(scores + ROUNDING * np.abs(scores), np.float64)
