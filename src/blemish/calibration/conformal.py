"""A threshold with a stated false-alarm rate, p-values and a fixed display scale, from held-out normal images alone.

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

from blemish.calibration.suspicious import suspicious
from blemish.errors import SettingError

ROUNDING = 1e-4
"""A score counts as higher than another if it exceeds it by this share, since engines round differently."""


@dataclass(frozen=True)
class Calibration:
    """Scores of n held-out normal images, and the threshold that they give at a false-alarm rate.

    `dataclasses.replace(calibration, rate=0.05)` gives the calibration at another rate.

    Attributes:
        scores: of the images, ascending (n,).
        medians: of their maps, in the same order (n,).
        maxima: of their maps, in the same order (n,).
        rate: the stated false-alarm rate.
        names: of the images, in the same order.
        folds: of the cross-fit that the scores come from; 0 if the images were held out.

    Raises:
        SettingError: the rate is not between 0 and 1, or n scores are too few to promise it.
    """

    scores: NDArray[np.float64]
    medians: NDArray[np.float64]
    maxima: NDArray[np.float64]
    rate: float
    names: tuple[str, ...] = ()
    folds: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.rate < 1:
            raise SettingError(f"false-alarm rate {self.rate} is out of range; give a rate above 0 and below 1")
        if not 1 <= self._rank <= len(self.scores):
            raise SettingError(f"{len(self.scores)} scores of good images cannot promise a rate of {self.rate:g}")

    @cached_property
    def threshold(self) -> float:
        """The ceil((n + 1)(1 - rate))-th smallest held-out score, raised by `ROUNDING`; images above are anomalous."""
        return float(_rounded_up(self.scores)[self._rank - 1])

    @cached_property
    def display(self) -> tuple[float, float]:
        """Map values drawn as the bottom and the top of the colour scale, for every image alike.

        The scale starts at the median value of held-out maps. Its middle is a value that the maxima of held-out maps do
        not exceed, except for the share `rate` of them, so good parts stay in the lower half of the colours.
        """
        low = float(np.median(self.medians))
        high = float(np.quantile(self.maxima, 1 - self.rate, method="higher"))
        return low, low + 2 * max(high - low, 1e-6 * max(abs(low), 1.0))

    @property
    def map_threshold(self) -> float:
        """The middle of the display scale; at most the share `rate` of held-out maps has a value above it."""
        return (self.display[0] + self.display[1]) / 2

    @cached_property
    def suspicious(self) -> list[tuple[str, float]]:
        """Names and p-values of images that look anomalous themselves, the worst first; see `suspicious.suspicious`."""
        found = np.flatnonzero(suspicious(self.scores))[::-1].tolist()
        return [(self.names[index], (len(self.scores) - index) / len(self.scores)) for index in found]

    @property
    def _rank(self) -> int:
        return math.ceil((len(self.scores) + 1) * (1 - self.rate) - 1e-9)  # 20 · 0.95 must not round up to 20

    def false_alarms_by_chance(self, normal: int, coverage: float = 0.95) -> tuple[int, int]:
        """Returns the range of counts of false alarms that `normal` new normal images give with probability `coverage`.

        With n held-out scores and the k-th as threshold, the count is beta-binomial with parameters n + 1 - k and k:
        the held-out images are a random sample, as the new ones are.
        """
        from scipy.stats import betabinom

        count = betabinom(normal, len(self.scores) + 1 - self._rank, self._rank)
        return int(count.ppf((1 - coverage) / 2)), int(count.ppf((1 + coverage) / 2))

    def p_values(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Returns (1 + #{held-out scores >= s}) / (n + 1) for each score s; `ROUNDING` counts as no difference."""
        held_out = _rounded_up(self.scores)
        at_least = len(held_out) - np.searchsorted(held_out, np.asarray(scores, np.float64), side="left")
        return np.asarray((1 + at_least) / (len(self.scores) + 1), np.float64)


def _rounded_up(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(scores + ROUNDING * np.abs(scores), np.float64)
