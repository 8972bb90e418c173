"""Figures that depend on the order of scores alone: AUROC, AUPR, and the area under a part of a ROC curve."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blemish.errors import ShapeError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RankCounts:
    """Distinct values, ascending (k,), and the weight of negatives and of positives at each of them, both (k,)."""

    values: Floats
    negatives: Floats
    positives: Floats

    @property
    def is_ranking(self) -> bool:
        """Whether both classes are there."""
        return bool(self.negatives.sum() > 0 and self.positives.sum() > 0)


def tally(scores: ArrayLike, labels: ArrayLike) -> RankCounts:
    """Returns exact counts of scores (n,); their labels (n,) are true where positive.

    Raises:
        ShapeError: scores and labels differ in length, or a score is not finite.
    """
    values = np.asarray(scores, np.float64).ravel()
    positive = np.asarray(labels, bool).ravel()
    if values.shape != positive.shape:
        raise ShapeError(f"{len(values)} scores and {len(positive)} labels do not belong together")
    if not np.isfinite(values).all():
        raise ShapeError("scores must be finite; found one that is not")
    distinct, place = np.unique(values, return_inverse=True)
    count = len(distinct)
    return RankCounts(
        distinct,
        np.bincount(place[~positive], minlength=count).astype(np.float64),
        np.bincount(place[positive], minlength=count).astype(np.float64),
    )


def auroc(counts: RankCounts) -> float | None:
    """Returns the probability that a positive scores above a negative, ties counted by half (Hanley & McNeil 1982)."""
    if not counts.is_ranking:
        return None
    below = np.cumsum(counts.negatives) - counts.negatives
    wins = (counts.positives * (below + counts.negatives / 2)).sum()
    return float(wins / (counts.positives.sum() * counts.negatives.sum()))


def average_precision(counts: RankCounts) -> float | None:
    """Returns AUPR: the sum of precision times the step of recall, thresholds descending, without interpolation."""
    if not counts.is_ranking:
        return None
    hits = np.cumsum(counts.positives[::-1])
    alarms = np.cumsum(counts.negatives[::-1])
    precision = hits / np.maximum(hits + alarms, np.finfo(float).tiny)
    return float((precision * counts.positives[::-1]).sum() / hits[-1])


def roc_curve(counts: RankCounts) -> tuple[Floats, Floats]:
    """Returns false and true positive rates, both (k + 1,), from (0, 0) to (1, 1), as the threshold descends."""
    false = np.concatenate([[0.0], np.cumsum(counts.negatives[::-1])])
    true = np.concatenate([[0.0], np.cumsum(counts.positives[::-1])])
    return false / false[-1], true / true[-1]


def precision_recall_curve(counts: RankCounts) -> tuple[Floats, Floats]:
    """Returns recall and precision, both (k,), at each distinct value as the threshold descends."""
    hits = np.cumsum(counts.positives[::-1])
    alarms = np.cumsum(counts.negatives[::-1])
    return hits / hits[-1], hits / np.maximum(hits + alarms, np.finfo(float).tiny)


def partial_area(counts: RankCounts, limit: float) -> float | None:
    """Returns the area under the ROC curve for false positive rates from 0 to `limit`, divided by `limit`.

    Straight lines join the curve's points, one of them cut at the limit.
    """
    if not counts.is_ranking:
        return None
    false, true = roc_curve(counts)
    inside = int(np.searchsorted(false, limit, side="right"))
    rates = np.append(false[:inside], limit)
    heights = np.append(true[:inside], np.interp(limit, false, true))
    return float(((heights[1:] + heights[:-1]) / 2 * np.diff(rates)).sum() / limit)
