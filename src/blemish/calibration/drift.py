"""Whether new images are still like those that calibrated: a martingale over their p-values, and a test of a window.

P-values against one fixed calibration are not independent: where the n images that calibrate happened to score high,
all p-values of a long stream are a little small, and a test that takes them for independent and uniform raises an alarm
on good images sooner or later. So each image is ranked among the n and the images before it. A p-value
(1 + #{scores >= s}) / (n + 1) says in which of the n + 1 gaps between the n scores an image lies. If all images are
exchangeable and no two scores are equal, the t-th one lies in a gap with the probability (1 + images in it) / (n + t),
Pólya's urn, whatever the scores' distribution. A bet on the gap that is fair under these probabilities makes a
martingale; by Ville's inequality (1939) it ever reaches c with a probability of at most 1 / c, however long the stream.

This is a conformal test martingale (Vovk, Nouretdinov & Gammerman 2003) whose bets are averaged over the places that an
image may have in its gap, so it needs no random numbers.
"""

from __future__ import annotations

import warnings
from bisect import bisect_left, bisect_right, insort
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blemish.errors import SettingError, require

BETS = np.array([[-1.0, 0.0], [-0.5, 0.0], [1.0, 0.0], [0.5, 0.0], [0.0, 1.0], [0.0, -1.0]])
"""Weights x, y of each bet 1 + x (2p - 1) + y (6p² - 6p + 1), by the first two Legendre polynomials.

The halves are those of the simple jumper (Vovk et al. 2021); the second polynomial is from Szabadváry 2026. An image
multiplies what is staked by at most 2, so a single odd one raises no alarm.
"""

SHIFTS = ("higher", "higher", "lower", "lower", "farther apart", "closer together")
"""What the scores are compared with those that calibrated, where each bet wins."""


@dataclass(frozen=True)
class Evidence:
    """A test martingale over a stream of T images.

    Attributes:
        log10: decimal logarithm of the martingale after each image (T,); 0 before the first.
        alarm: index of the first image after which it is at the level or above; `None` if there is none.
        since: index of the image from which the bet that has won most by then has won; `None` without an alarm.
        shift: one of `SHIFTS`; `None` without an alarm.
    """

    log10: NDArray[np.float64]
    alarm: int | None
    since: int | None
    shift: str | None


def gaps(p_values: ArrayLike, count: int) -> NDArray[np.int64]:
    """Returns for each p-value (T,) how many of the `count` scores that calibrate are at least as high (T,).

    Raises:
        SettingError: there is no p-value, or one is not a multiple of 1 / (count + 1) above 0 and at most 1.
    """
    given = np.asarray(p_values, np.float64)
    if given.ndim != 1 or not len(given):
        raise SettingError(f"p-values of shape {given.shape} are no list of one or more; give one for each image")
    with np.errstate(over="ignore", invalid="ignore"):
        ranks = given * (count + 1)
        wrong = np.flatnonzero(~((np.abs(ranks - ranks.round()) < 1e-6) & (ranks > 0.5) & (ranks < count + 1.5)))
    if len(wrong):
        raise SettingError(
            f"p-value {given[wrong[0]]:g} of image {wrong[0] + 1} is not one of a model that {count} images calibrate "
            f"(a multiple of 1/{count + 1}); was it another model, or another calibration?"
        )
    return np.asarray(ranks.round().astype(np.int64) - 1)


def evidence(p_values: ArrayLike, count: int, level: float) -> Evidence:
    """Returns the martingale over p-values (T,) in order, of images judged by a model that `count` images calibrate.

    A share of the capital, 1 / log2(t + 1) - 1 / log2(t + 2), is staked at image t = 1, 2, … in equal parts on all
    `BETS`, and stays on them: Shiryaev's mixture over the time of change, with a prior that sums to 1. So a late change
    is seen nearly as soon as an early one, and the capital never falls below 1 / log2(t + 2). A mixture of martingales
    is one.

    Raises:
        SettingError: a p-value is not one of such a model.
    """
    logs = np.log(_factors(gaps(p_values, count), count))  # (T, bets)
    won = logs.cumsum(0)
    before = won - logs
    reserve = 1 / np.log2(np.arange(len(logs) + 1) + 2.0)
    stakes = np.log((reserve[:-1] - reserve[1:]) / len(BETS))
    grown = won + np.logaddexp.accumulate(stakes[:, None] - before, axis=0)
    total = np.logaddexp(np.logaddexp.reduce(grown, axis=1), np.log(reserve[1:]))
    reached = np.flatnonzero(total >= np.log(level))
    if not len(reached):
        return Evidence(total / np.log(10), None, None, None)
    alarm = int(reached[0])
    starts = before[: alarm + 1].argmin(0)
    best = int((won[alarm] - before[: alarm + 1].min(0)).argmax())
    return Evidence(total / np.log(10), alarm, int(starts[best]), SHIFTS[best])


def _factors(ranks: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """Returns what each image multiplies each bet by (T, bets): the bet's mean over the image's gap.

    Of n + t places among the n scores and the t - 1 images before, the gap has one for each image in it and one more.
    """
    seen: list[int] = []
    found = np.empty((len(ranks), 2))
    for index, rank in enumerate(ranks.tolist()):
        first, last = bisect_left(seen, rank), bisect_right(seen, rank)
        places = count + index + 1
        found[index] = (rank + first) / places, (rank + last + 1) / places
        insort(seen, rank)
    low, high = found.T
    linear = low + high - 1
    square = 2 * (low**2 + low * high + high**2) - 3 * (low + high) + 1
    return np.asarray(1 + np.stack([linear, square], 1) @ BETS.T)


def window_p_value(p_values: ArrayLike, count: int) -> float:
    """Returns the p-value of the two-sample Kolmogorov-Smirnov test of images against those that calibrated.

    Both samples' positions follow from the p-values, so the test takes into account that n is finite, and it is exact
    up to 10,000 images. It holds for one look: who looks again after every image sees any p-value in the end.

    Raises:
        SettingError: a p-value is not one of a model that `count` images calibrate.
        MissingExtraError: scipy is not installed.
    """
    require("scipy.stats", of="drift", extra="report")
    from scipy.stats import ks_2samp

    ranks = gaps(p_values, count)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # it says that it goes on without the exact distribution
        return float(np.clip(ks_2samp(np.arange(count), ranks - 0.5).pvalue, 0, 1))


def running_mean(p_values: ArrayLike, window: int) -> NDArray[np.float64]:
    """Returns after each image the mean of the latest `window` p-values (T,), or of all if they are fewer."""
    sums = np.concatenate([[0.0], np.asarray(p_values, np.float64).cumsum()])
    ends = np.arange(1, len(sums))
    starts = np.maximum(ends - window, 0)
    return np.asarray((sums[ends] - sums[starts]) / (ends - starts))
