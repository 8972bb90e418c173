"""From held-out normal images alone: a threshold with a stated false-alarm rate, p-values, and a fixed display scale.

Split conformal prediction (Papadopoulos et al. 2002; Vovk, Gammerman & Shafer 2005): where the held-out images and a
new normal image are exchangeable, the new one's score exceeds the threshold with a probability of at most the stated
rate, whatever the scores' distribution. Nothing is assumed of anomalies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blemish.errors import SettingError

DEFAULT_RATE = 0.01
DEFAULT_SHARE = 0.2
FEWEST_HELD_OUT = 20

ROUNDING = 1e-4
"""Share of itself by which a score must exceed another to count as higher, since engines round differently."""


def held_out_count(images: int, share: float = DEFAULT_SHARE) -> int:
    """How many of `images` normal images to hold out: the share, at least 20, never more than half.

    Raises:
        SettingError: a share that is not above 0 and at most 0.5.
    """
    if not 0 < share <= 0.5:
        raise SettingError(f"calibration share {share} is out of range; give a share above 0 and up to 0.5")
    return min(max(FEWEST_HELD_OUT, round(share * images)), images // 2)


def lowest_rate(held_out: int) -> float:
    """The lowest false-alarm rate that `held_out` scores can promise: 1 / (n + 1)."""
    return 1 / (held_out + 1)


def promised_rate(held_out: int, asked: float | None) -> float:
    """The rate to calibrate to: the one asked for, or 1 %, which gives way to the lowest that can be had.

    Raises:
        SettingError: a rate that is no probability, or one asked for that is lower than can be had.
    """
    lowest = lowest_rate(held_out)
    if asked is None:
        return max(DEFAULT_RATE, lowest)
    if not 0 < asked < 1:
        raise SettingError(f"false-alarm rate {asked} is out of range; give a rate above 0 and below 1")
    if asked < lowest - 1e-12:
        needed = math.ceil(1 / asked) - 1
        raise SettingError(
            f"a false-alarm rate of {asked:g} needs {needed} held-out good images, and there are {held_out}, which "
            f"allow {math.ceil(1e4 * lowest) / 1e4:g} or more; ask for that, add images, or hold out a larger share "
            "(--calibration-share, up to 0.5)"
        )
    return asked


@dataclass(frozen=True)
class Calibration:
    """What held-out normal images say about scores.

    Attributes:
        scores: theirs, sorted, (n,).
        rate: the stated false-alarm rate.
        display: map values drawn as the bottom and the top of the colour scale, for every image alike.
    """

    scores: NDArray[np.float64]
    rate: float
    display: tuple[float, float]

    @property
    def threshold(self) -> float:
        """The ceil((n + 1)(1 - rate))-th smallest held-out score, and `ROUNDING` of it; an image is anomalous above."""
        return float(_rounded_up(self.scores)[self._rank - 1])

    @property
    def map_threshold(self) -> float:
        """The middle of the display scale: all but the share `rate` of held-out images have no value above it."""
        return (self.display[0] + self.display[1]) / 2

    @property
    def _rank(self) -> int:
        count = len(self.scores)
        rank = math.ceil((count + 1) * (1 - self.rate) - 1e-9)  # 20 · 0.95 must not round up to 20
        if not 1 <= rank <= count:
            raise SettingError(f"{count} held-out scores cannot promise a rate of {self.rate:g}")
        return rank

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


class Held:
    """Scores and map statistics of held-out images, gathered one by one."""

    def __init__(self) -> None:
        self._scores: list[float] = []
        self._medians: list[float] = []
        self._largest: list[float] = []

    def update(self, score: float, values: NDArray[np.float32]) -> Held:
        """One image's score and map (H, W)."""
        self._scores.append(score)
        step = max(1, math.isqrt(values.size >> 20))  # of a large photograph about a million pixels will do
        self._medians.append(float(np.median(values[::step, ::step])))
        self._largest.append(float(values.max()))
        return self

    def __len__(self) -> int:
        return len(self._scores)

    def finish(self, rate: float) -> Calibration:
        """The calibration at a rate.

        The display scale runs from the typical value of a normal map to twice as far as the largest values of normal
        maps, all but the share `rate` of them: what a good part shows stays in the lower half of the colours.
        """
        low = float(np.median(self._medians))
        high = float(np.quantile(self._largest, 1 - rate, method="higher"))
        top = low + 2 * max(high - low, 1e-6 * max(abs(low), 1.0))
        return Calibration(np.sort(np.asarray(self._scores, np.float64)), rate, (low, top))
