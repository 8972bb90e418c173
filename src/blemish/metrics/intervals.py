"""Confidence intervals of figures, and of differences between figures on the same images, by resampling the images.

A bootstrap draws as many images again as there are, with replacement, good and anomalous ones each among themselves,
and computes the figure anew. The interval lies between two quantiles of these figures, which are corrected for bias and
skewness (BCa, Efron 1987) and moved outwards for few images (the expanded quantiles of Hesterberg 2015).

A figure is a function of weights: how often each image was drawn. So the difference of two detectors is one figure
too, and both see the same draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from blemish.metrics.ranking import Floats

LEVEL = 0.95
RESAMPLES = 2000

LEAST_IMAGES = 6
"""The fewest images of each class: with five that all favour one detector, even a sign test is not significant at 95 %.
"""

_LEFT_OUT = 200
"""The largest number of groups of a class that are left out in turn, to measure skewness."""

_NUMBERS = 1 << 22
"""Weights that are in memory at once."""

Figure = Callable[[Floats], Floats]
"""From weights of the images (r, n) to a figure for each row (r,)."""


@dataclass(frozen=True)
class Interval:
    """Bounds that hold the true figure in 95 of 100 samples of images.

    Attributes:
        low, high: the bounds.
        images: how many images were resampled.
    """

    low: float
    high: float
    images: int

    def as_dict(self) -> dict[str, float]:
        """Returns the bounds and the count, as JSON can hold them."""
        return {"low": self.low, "high": self.high, "images": self.images}


def mean_of(values: ArrayLike) -> Figure:
    """Returns the mean of values (n,), as a figure."""
    column = np.asarray(values, np.float64)

    def figure(weights: Floats) -> Floats:
        means: Floats = weights @ column / weights.sum(1)
        return means

    return figure


def auroc_of(scores: ArrayLike, anomalous: ArrayLike) -> Figure:
    """Returns the AUROC of scores (n,) for what is anomalous (n,), as a figure; ties count by half."""
    found = np.asarray(scores, np.float64)
    order = np.argsort(found, kind="stable")
    positive = np.asarray(anomalous, bool)[order]
    starts = np.flatnonzero(np.diff(found[order], prepend=-np.inf))

    def figure(weights: Floats) -> Floats:
        drawn = weights[:, order]
        negatives = np.add.reduceat(np.where(positive, 0.0, drawn), starts, axis=1)
        positives = np.add.reduceat(np.where(positive, drawn, 0.0), starts, axis=1)
        below = np.cumsum(negatives, axis=1) - negatives / 2
        wins: Floats = np.einsum("rk,rk->r", positives, below)
        pairs: Floats = positives.sum(1) * negatives.sum(1)
        return wins / pairs

    return figure


def difference(first: Figure, second: Figure) -> Figure:
    """Returns the first figure less the second one, on the same draws."""
    return lambda weights: first(weights) - second(weights)


def value(figure: Figure, images: int) -> float:
    """Returns the figure of so many images, each taken once."""
    return float(figure(np.ones((1, images)))[0])


def interval(figure: Figure, classes: ArrayLike, *, seed: int = 0, resamples: int = RESAMPLES) -> Interval | None:
    """Returns the interval of a figure at 95 %, or `None` if these images cannot give one.

    They cannot if a class has fewer than `LEAST_IMAGES` images, if the figure is undefined in a draw, or if it is the
    same in every draw: nothing then tells how much it would differ on other images.

    Args:
        figure: of weights.
        classes: (n,) the class of each image; each class keeps its size in every draw.
        seed: of the draws.
        resamples: how many draws.
    """
    kinds = np.asarray(classes)
    strata = [np.flatnonzero(kinds == kind) for kind in np.unique(kinds)]
    least = min((len(stratum) for stratum in strata), default=0)
    if least < LEAST_IMAGES:
        return None
    rng = np.random.default_rng(seed)
    rows = max(1, _NUMBERS // len(kinds))
    drawn = np.concatenate(
        [figure(_draws(strata, min(rows, resamples - done), rng)) for done in range(0, resamples, rows)]
    )
    if not np.isfinite(drawn).all() or drawn.min() == drawn.max():
        return None
    estimate = value(figure, len(kinds))
    shares = _shares(estimate, drawn, _acceleration(figure, strata), _widened(least))
    low, high = np.quantile(drawn, shares)
    return Interval(float(low), float(high), len(kinds))


def auroc_interval(scores: ArrayLike, anomalous: ArrayLike, *, seed: int = 0) -> Interval | None:
    """Returns the interval of the AUROC of scores (n,) for what is anomalous (n,); see `interval`.

    Where the two classes do not overlap at all, every draw is perfect too. The interval is then the one that Newcombe
    (2006, method 5) derives from the variance of Hanley and McNeil.
    """
    positive = np.asarray(anomalous, bool)
    counts = [int((~positive).sum()), int(positive.sum())]
    if min(counts) < LEAST_IMAGES:
        return None
    figure = auroc_of(scores, positive)
    estimate = value(figure, len(positive))
    if estimate in (0.0, 1.0):
        bound = _bound_of_perfect(*counts)
        return Interval(*((bound, 1.0) if estimate else (0.0, 1 - bound)), len(positive))
    return interval(figure, positive, seed=seed)


def _draws(strata: list[np.ndarray], count: int, rng: np.random.Generator) -> Floats:
    """Returns how often each image is drawn (count, n)."""
    weights = np.empty((count, sum(map(len, strata))))
    for stratum in strata:
        size = len(stratum)
        chosen = rng.integers(size, size=(count, size)) + size * np.arange(count)[:, None]
        weights[:, stratum] = np.bincount(chosen.ravel(), minlength=count * size).reshape(count, size)
    return weights


def _acceleration(figure: Figure, strata: list[np.ndarray]) -> float:
    """Returns a sixth of the skewness of the figure, from leaving out images, or groups of them, in turn."""
    squares = cubes = 0.0
    for stratum in strata:
        groups = min(len(stratum), _LEFT_OUT)
        weights = np.ones((groups, sum(map(len, strata))))
        for group in range(groups):
            weights[group, stratum[group::groups]] = 0
        left = figure(weights)
        influence = (groups - 1) * (left.mean() - left) / groups
        squares += float((influence**2).sum())
        cubes += float((influence**3).sum())
    return cubes / (6 * squares**1.5) if squares > 0 else 0.0


def _widened(least: int) -> float:
    """Returns the normal quantile of the level, moved outwards as Student's t is for few images."""
    return math.sqrt(least / (least - 1)) * student_quantile(LEVEL, least - 1)


def student_quantile(level: float, freedom: int) -> float:
    """Returns the t for which Student's distribution has the probability `level` between -t and t.

    By bisection of the finite sums for whole degrees of freedom (Abramowitz & Stegun 1964, 26.7.3 and 26.7.4).
    """
    odd = freedom % 2
    steps = np.arange(1, (freedom - 1) // 2 + (1 - odd) * (freedom > 1))
    factors = np.cumprod(np.concatenate([[1.0], (2 * steps - 1 + odd) / (2 * steps + odd)]))

    def held(angle: float) -> float:
        sine, cosine = math.sin(angle), math.cos(angle)
        series = sine * cosine**odd * float(factors @ cosine ** (2.0 * np.arange(len(factors))))
        return (angle + (series if freedom > 1 else 0)) * 2 / math.pi if odd else series

    low, high = 0.0, math.pi / 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if held(middle) < level else (low, middle)
    return math.tan(low) * math.sqrt(freedom)


def _shares(estimate: float, drawn: Floats, acceleration: float, z: float) -> list[float]:
    """Returns the shares of draws below the two bounds."""
    normal = NormalDist()
    below = float((np.count_nonzero(drawn < estimate) + np.count_nonzero(drawn == estimate) / 2) / len(drawn))
    edge = 1 / (2 * len(drawn))
    bias = normal.inv_cdf(min(max(below, edge), 1 - edge))
    return [normal.cdf(bias + (bias + side) / max(1 - acceleration * (bias + side), 0.1)) for side in (-z, z)]


def _bound_of_perfect(normal: int, anomalous: int) -> float:
    """Returns the smallest AUROC that a perfect ranking of so many images does not contradict."""
    z, half = NormalDist().inv_cdf(0.5 + LEVEL / 2), (normal + anomalous) / 2 - 1
    low, high = 0.5, 1 - 1e-12
    for _ in range(60):
        area = (low + high) / 2
        spread = (1 + half * ((1 - area) / (2 - area) + area / (1 + area))) / (normal * anomalous)
        if 1 - area > z * math.sqrt(area * (1 - area) * spread):
            low = area
        else:
            high = area
    return low
