"""Tests whether new images are still like those that calibrated: martingales over their ranks, and a test of a window.

P-values against one fixed calibration are not independent: if the n images that calibrate happen to have low scores,
all p-values of a long stream are a little small, and a test that assumes independent and uniform p-values raises an
alarm on good images sooner or later. So each image is ranked among the n images and those before it. If all are
exchangeable, these ranks are independent and uniform, whatever the scores' distribution, and a bet that is fair under
uniform ranks makes a martingale (Vovk, Nouretdinov & Gammerman 2003). By Ville's inequality (1939) the probability that
it reaches c at any time is at most 1 / c, however long the stream is.

A p-value (1 + #{scores >= s}) / (n + 1) says between which of the n scores an image lies, but not the order of images
between the same two. Exchangeable images lie there in random order, so a random order replaces the true one, and the
ranks have the same distribution as if scores were known and no two were equal.

There are two martingales. The first ranks an image among the n images and those before it. If the model has learned
from the images that calibrate it, new good images may have lower scores; then it bets on higher scores only, and the
bound still holds: raising the n scores makes every rank larger, and the bets smaller. The second ranks an image only
among those before it, without the calibration. Each has half of the probability of a false alarm.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blemish.errors import SettingError, require

HIGHER = np.array([[-1.0, 0.0], [-0.5, 0.0]])
BETS = np.concatenate([HIGHER, -HIGHER, [[0.0, 1.0], [0.0, -1.0]]])
"""Weights x, y of each bet 1 + x (2p - 1) + y (6p² - 6p + 1), by the first two Legendre polynomials.

The halves are those of the simple jumper (Vovk et al. 2021); the second polynomial is from Szabadváry 2026. An image
multiplies what is staked by at most 2, so a single odd one raises no alarm.
"""

SHIFTS = ("higher", "lower", "farther apart", "closer together")
"""What scores may be, compared with those before."""


@dataclass(frozen=True)
class Evidence:
    """What two test martingales found in a stream of T images.

    Attributes:
        log10: decimal logarithm of half of the larger martingale after each image (T,).
        alarm: index of the first image after which this is at the level or above; `None` if there is none.
        since: index of the image since which the scores differ most, seen from the alarm; `None` without one.
        shift: one of `SHIFTS`; `None` without an alarm.
    """

    log10: NDArray[np.float64]
    alarm: int | None = None
    since: int | None = None
    shift: str | None = None


def places(p_values: ArrayLike, count: int, seed: int = 0) -> NDArray[np.float64]:
    """Returns the places (T,) of images among the `count` that calibrate, whose j-th highest has the place j.

    Images between the same two are in random order.

    Raises:
        SettingError: there is no p-value, or one is not a multiple of 1 / (count + 1) above 0 and at most 1.
    """
    try:
        given = np.asarray(p_values, np.float64)
    except (TypeError, ValueError, OverflowError):
        raise SettingError("p-values are not a list of numbers; give one for each image") from None
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
    return np.asarray(ranks.round() - np.random.default_rng(seed).uniform(0.001, 0.999, len(given)))


def evidence(where: NDArray[np.float64], count: int, level: float, *, two_sided: bool) -> Evidence:
    """Returns the evidence that a stream of images is not all alike, or not like those that calibrate.

    Args:
        where: the images lie among those that calibrate, as `places` gives it, in their order (T,).
        count: how many images calibrate.
        level: the evidence that raises an alarm, above 1.
        two_sided: whether scores that are lower than those that calibrate count as drift too.
    """
    tests = factors(where, count, two_sided=two_sided)
    totals = np.stack([capital(test) for test in tests]) - np.log(2)
    found = totals.max(0)
    reached = np.flatnonzero(found >= np.log(level))
    if not len(reached):
        return Evidence(found / np.log(10))
    alarm = int(reached[0])
    by_calibration = int(totals[:, alarm].argmax()) == 0
    above = np.floor(where[: alarm + 1]) if by_calibration else np.zeros(alarm + 1)
    above += where[: alarm + 1].argsort().argsort()
    among = alarm + 1 + (count if by_calibration else 0)
    since, shift = _change(above, among, SHIFTS[:1] if by_calibration and not two_sided else SHIFTS)
    return Evidence(found / np.log(10), alarm, since, shift)


def _change(above: NDArray[np.float64], among: int, shifts: tuple[str, ...]) -> tuple[int, str]:
    """Returns the index of the image since which the ranks differ most, and which of the shifts it is.

    This is Pettitt's (1979) estimate of a change, which takes the ranks among all images, the later ones too. A mean
    is measured by its deviation: the variance of m of N ranks, drawn without putting back, goes by (N - m) / (m N).

    Args:
        above: how many of all have higher scores (T,).
        among: how many all are, those that calibrate included if the images are compared with them.
        shifts: of `SHIFTS`, from the first on.
    """
    shares = (above + 0.5) / among
    linear, square = 2 * shares - 1, 6 * shares**2 - 6 * shares + 1
    gains = np.stack([-linear, linear, square, -square][: len(shifts)], 1)
    size = np.arange(len(above), 0, -1)[:, None]
    at_once = size == among  # without others, not all of them can differ
    deviation = gains[::-1].cumsum(0)[::-1] / np.sqrt(size * (1 - size / among) + at_once)
    since, shift = divmod(int(np.where(at_once, -np.inf, deviation).argmax()), len(shifts))
    return since, shifts[shift]


def factors(
    where: NDArray[np.float64], count: int, *, two_sided: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns what each image multiplies each bet by (T, bets): ranked with those that calibrate, and without."""
    before = _before(where)
    order = np.arange(1, len(where) + 1)
    with_all = _means(np.floor(where) + before, count + order, BETS if two_sided else HIGHER)
    return with_all, _means(before, order, BETS)


def _before(where: NDArray[np.float64]) -> NDArray[np.int64]:
    """Returns how many of the images before each have higher scores (T,).

    As in a merge sort, the halves of blocks of 2, 4, 8 … images are compared: T log² T steps at most.
    """
    found = np.zeros(len(where), np.int64)
    by_place = np.lexsort((-np.arange(len(where)), where))
    for level in range(max(len(where) - 1, 0).bit_length()):
        blocks = by_place >> (level + 1)
        order = blocks.argsort(kind="stable")
        images, blocks = by_place[order], blocks[order]
        late = (images >> level & 1).astype(bool)
        # All blocks before are full: each has 2^level images in its first half.
        found[images[late]] += np.cumsum(~late)[late] - (blocks[late] << level)
    return found


def _means(
    above: NDArray[np.float64] | NDArray[np.int64], among: NDArray[np.int64], bets: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Returns each bet's mean over the place of each image's rank (T, bets), where places divide 0 to 1 evenly.

    Args:
        above: how many have higher scores (T,).
        among: how many there are, the image included (T,).
        bets: as in `BETS`.
    """
    low, high = above / among, (above + 1) / among
    linear = low + high - 1
    square = 2 * (low**2 + low * high + high**2) - 3 * (low + high) + 1
    return np.asarray(1 + np.stack([linear, square], 1) @ bets.T)


def capital(factors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the logarithm of a martingale after each image (T,), from what each multiplies each bet by (T, bets).

    At image t = 1, 2, … a share of the capital, 1 / log2(t + 1) - 1 / log2(t + 2), is staked in equal parts on all
    bets, and stays on them: Shiryaev's mixture over the time of change, with a prior that sums to 1. So a late change
    is seen nearly as soon as an early one, and the capital never falls below 1 / log2(t + 2).
    """
    logs = np.log(factors)
    won = logs.cumsum(0)
    reserve = 1 / np.log2(np.arange(len(logs) + 1) + 2.0)
    stakes = np.log((reserve[:-1] - reserve[1:]) / factors.shape[1])
    grown = won + np.logaddexp.accumulate(stakes[:, None] - (won - logs), axis=0)
    return np.asarray(np.logaddexp(np.logaddexp.reduce(grown, axis=1), np.log(reserve[1:])))


def window_p_value(where: NDArray[np.float64], count: int, *, two_sided: bool) -> float:
    """Returns the p-value of the Kolmogorov-Smirnov test of images against those that calibrate.

    It takes into account that these are finitely many. It is exact up to some thousands of images, and uses the
    limiting distribution beyond. It holds for a single test: if it is repeated after every image, small p-values occur
    by chance.

    Args:
        where: the images lie among those that calibrate, as `places` gives it (T,).
        count: how many images calibrate.
        two_sided: whether lower scores count as higher ones do.

    Raises:
        MissingExtraError: scipy is not installed.
    """
    require("scipy.stats", of="drift", extra="report")
    from scipy.stats import ks_2samp

    alternative = "two-sided" if two_sided else "greater"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # it says that it goes on by the limiting distribution
        return float(ks_2samp(where, np.arange(1, count + 1), alternative).pvalue)


def running_mean(p_values: ArrayLike, window: int) -> NDArray[np.float64]:
    """Returns after each image the mean of the latest `window` p-values (T,), or of all if they are fewer."""
    sums = np.concatenate([[0.0], np.asarray(p_values, np.float64).cumsum()])
    ends = np.arange(1, len(sums))
    starts = np.maximum(ends - window, 0)
    return np.asarray((sums[ends] - sums[starts]) / (ends - starts))
