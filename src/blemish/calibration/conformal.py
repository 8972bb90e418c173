"""A threshold with a stated false-alarm rate, p-values, a level for boxes with a rate of its own, and a fixed display
scale, from scores of good images alone, by models that did not see them.

Split conformal prediction (Papadopoulos et al. 2002; Vovk, Gammerman & Shafer 2005): if the held-out images and a new
good image are exchangeable, the new one's score exceeds the threshold with a probability of at most the stated rate,
whatever the scores' distribution. Nothing is assumed about anomalies. `cross_fit` says what holds for cross-fitted
scores.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blemish.calibration.hold_out import lowest_rate
from blemish.calibration.suspicious import suspicious
from blemish.errors import SettingError, as_number, number_of

DEFAULT_BOX_RATE = 0.1

ROUNDING = 1e-4
"""A score counts as higher than another if it exceeds it by this share, since engines round differently."""


@dataclass(frozen=True)
class Calibration:
    """Scores of n good images that calibrate, and the threshold that they give at a false-alarm rate.

    `calibration.at(rate=0.05)` gives the calibration at another rate.

    Attributes:
        scores: of the images, ascending (n,).
        medians: of their maps, in the same order (n,).
        maxima: of their maps, in the same order (n,).
        rate: the stated false-alarm rate.
        box_rate: the stated share of good images that show a box.
        given_threshold: a threshold that replaces that of the rate; `rate` is then `rate_of` it.
        names: of the images, in the same order.
        digests: of their pixels, in hexadecimal, in the same order.
        folds: of the cross-fit that the scores come from; 0 if the images were held out.
        typical, highest: typical and highest values of each layer's map, in the same order (n, L); L is 0 if the map is
            not made of several layers.

    Raises:
        SettingError: a rate is not between 0 and 1, n scores are too few to promise it, or the threshold that was
            given is not finite, or does not fit the rate.
    """

    scores: NDArray[np.float64]
    medians: NDArray[np.float64]
    maxima: NDArray[np.float64]
    rate: float
    box_rate: float
    given_threshold: float | None = None
    names: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()
    folds: int = 0
    typical: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0)))
    highest: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0)))

    def __post_init__(self) -> None:
        check_rate("box rate", self.box_rate, len(self.scores))
        given = self.given_threshold
        if given is None:
            check_rate("false-alarm rate", self.rate, len(self.scores))
        elif not math.isfinite(given):
            raise SettingError(f"threshold {given} is not a finite number; give a score")
        elif self.rate != self.rate_of(given):
            raise SettingError(f"threshold {given:g} promises a rate of {self.rate_of(given):g}, not {self.rate}")

    def at(
        self, *, rate: float | None = None, threshold: float | None = None, box_rate: float | None = None
    ) -> Calibration:
        """Returns the calibration at another rate or threshold, or at another box rate; what is `None` stays.

        Raises:
            SettingError: a rate is out of range or lower than n scores can promise, the threshold is not finite, one
                of them is not a number, or both a rate and a threshold are given.
        """
        changed = self
        if rate is not None and threshold is not None:
            raise SettingError("a false-alarm rate and a threshold were given, but each decides the other; give one")
        if rate is not None:
            changed = replace(changed, rate=as_number("false-alarm rate", rate), given_threshold=None)
        if threshold is not None:
            given = as_number("threshold", threshold)
            changed = replace(changed, rate=self.rate_of(given), given_threshold=given)
        return changed if box_rate is None else replace(changed, box_rate=as_number("box rate", box_rate))

    def rate_of(self, threshold: float) -> float:
        """Returns the smallest rate whose threshold is not above this one.

        It is 1 / (n + 1) if the threshold lies above all scores, and 1, which promises nothing, if it lies below all.
        """
        below = int(np.searchsorted(_rounded_up(self.scores), threshold, side="right"))
        return 1 - below / (len(self.scores) + 1)

    @cached_property
    def threshold(self) -> float:
        """The ceil((n + 1)(1 - rate))-th smallest score, raised by `ROUNDING`, or the one that was given.

        Images above it are anomalous.
        """
        if self.given_threshold is not None:
            return self.given_threshold
        return float(_rounded_up(self.scores)[_rank(len(self.scores), self.rate) - 1])

    @property
    def threshold_image(self) -> str | None:
        """The name of the image whose score is the threshold; `None` if the threshold was given, or names were not."""
        if self.given_threshold is not None or not self.names:
            return None
        return self.names[_rank(len(self.scores), self.rate) - 1]

    @cached_property
    def box_level(self) -> float:
        """The ceil((n + 1)(1 - box_rate))-th smallest maximum of a map, raised by `ROUNDING`.

        Boxes enclose what lies above. A new good image has such a pixel with a probability of at most `box_rate`.
        """
        return float(_rounded_up(np.sort(self.maxima))[_rank(len(self.maxima), self.box_rate) - 1])

    @cached_property
    def display(self) -> tuple[float, float]:
        """Map values drawn as the bottom and the top of the colour scale, for every image alike.

        The scale starts at the median value of the n maps. Its middle is a value that the maxima of these maps do not
        exceed, except for the share `rate` of them, so good parts stay in the lower half of the colours.
        """
        return self._display(self.medians, self.maxima)

    @cached_property
    def layer_displays(self) -> list[tuple[float, float]]:
        """The bottom and the top of the colour scale of each layer's map, computed as `display` is."""
        return [self._display(*columns) for columns in zip(self.typical.T, self.highest.T, strict=True)]

    def _display(self, typical: NDArray[np.float64], highest: NDArray[np.float64]) -> tuple[float, float]:
        low = float(np.median(typical))
        high = float(np.quantile(highest, 1 - self.rate, method="higher"))
        return low, low + 2 * max(high - low, 1e-6 * max(abs(low), 1.0))

    @cached_property
    def suspicious(self) -> list[tuple[str, float]]:
        """Names and p-values of images that look anomalous themselves, the worst first; see `suspicious.suspicious`."""
        found = np.flatnonzero(suspicious(self.scores))[::-1].tolist()
        return [(self.names[index], (len(self.scores) - index) / len(self.scores)) for index in found]

    def false_alarms_by_chance(self, normal: int, coverage: float = 0.95) -> tuple[int, int]:
        """Returns the range of false alarms that `normal` new good images give with probability `coverage`.

        With n scores and the k-th as threshold, the count is beta-binomial with parameters n + 1 - k and k: the images
        that calibrate are a random sample, as the new ones are. A threshold that was given lies between the k-th
        and the next; the range is then from the lower end of the next one's to the upper end of the k-th one's.
        """

        def quantile(rank: int, share: float) -> int:
            if not 1 <= rank <= len(self.scores):  # no image lies below the threshold, or none above
                return 0 if rank else normal
            return int(np.searchsorted(_beta_binomial(normal, len(self.scores) + 1 - rank, rank), share))

        rank = _rank(len(self.scores), self.rate)
        lowest = rank if self.given_threshold is None else rank + 1
        return quantile(lowest, (1 - coverage) / 2), quantile(rank, (1 + coverage) / 2)

    def p_values(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Returns (1 + #{scores >= s}) / (n + 1) for each score s; `ROUNDING` counts as no difference."""
        return _share_at_least(_rounded_up(self.scores), scores)

    def box_p_values(self, peaks: ArrayLike) -> NDArray[np.float64]:
        """Returns for each peak of a box the share of good images that show one as high, as `p_values` for scores."""
        return _share_at_least(_rounded_up(np.sort(self.maxima)), peaks)


def _share_at_least(known: NDArray[np.float64], values: ArrayLike) -> NDArray[np.float64]:
    """Returns (1 + #{known >= v}) / (n + 1) for each value v; the n known ones ascend, rounded up."""
    at_least = len(known) - np.searchsorted(known, np.asarray(values, np.float64), side="left")
    return np.asarray((1 + at_least) / (len(known) + 1), np.float64)


def _beta_binomial(trials: int, first: int, second: int) -> NDArray[np.float64]:
    """Returns the probabilities of at most 0, 1, … `trials` successes, (trials + 1,).

    Args:
        trials: how many.
        first, second: parameters of the beta distribution that the rate of success has.
    """
    count = np.arange(trials)
    steps = np.log((trials - count) * (count + first)) - np.log((count + 1) * (trials - count - 1 + second))
    logarithms = np.concatenate([[0.0], np.cumsum(steps)])  # of each probability over that of 0
    summed = np.cumsum(np.exp(logarithms - logarithms.max()))
    return np.asarray(summed / summed[-1])


def default_box_rate(count: int) -> float:
    """Returns the box rate where none is asked for: 10 %, or the lowest that `count` images can promise."""
    return max(DEFAULT_BOX_RATE, lowest_rate(count))


def check_rate(name: str, rate: float, count: int) -> None:
    """Raises `SettingError` if a rate is not between 0 and 1, or lower than `count` images can promise."""
    if not (0 < rate < 1 and _rank(count, rate)):
        raise SettingError(f"{name} {rate} is out of range; give a rate above 0 and below 1, such as 0.05 for 5 %")
    if _rank(count, rate) > count:
        lowest = math.ceil(1e4 * lowest_rate(count)) / 1e4
        raise SettingError(
            f"{number_of(count, 'good image')} cannot promise a {name} of {rate:g}, only {lowest:g} or more; "
            "ask for that, or calibrate on more good images"
        )


def _rank(count: int, rate: float) -> int:
    """Returns which of the scores in ascending order is the threshold, from 1; `count` + 1 if they are too few."""
    return math.ceil((count + 1) * (1 - rate) - 1e-9)  # 20 · 0.95 must not round up to 20


def _rounded_up(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(scores + ROUNDING * np.abs(scores), np.float64)
