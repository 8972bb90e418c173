"""Figures of decisions: at the calibrated threshold, and the best F1 that any threshold would have reached."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from blemish.metrics.ranking import RankCounts


@dataclass(frozen=True)
class Decisions:
    """Counts of images above a threshold.

    Attributes:
        normal: number of good images.
        anomalous: number of anomalous images.
        false_alarms: number of good images above the threshold.
        detections: number of anomalous images above the threshold.
    """

    normal: int
    anomalous: int
    false_alarms: int
    detections: int

    @classmethod
    def count(cls, flagged: ArrayLike, labels: ArrayLike) -> Decisions:
        """Returns the counts for what was flagged (n,) and what is anomalous (n,), both boolean."""
        raised, anomalous = np.asarray(flagged, bool), np.asarray(labels, bool)
        return cls(
            int((~anomalous).sum()),
            int(anomalous.sum()),
            int((raised & ~anomalous).sum()),
            int((raised & anomalous).sum()),
        )

    @property
    def false_alarm_rate(self) -> float | None:
        """The share of good images that were flagged."""
        return self.false_alarms / self.normal if self.normal else None

    @property
    def detection_rate(self) -> float | None:
        """The share of anomalous images that were flagged."""
        return self.detections / self.anomalous if self.anomalous else None


def f1_max(counts: RankCounts) -> float | None:
    """Returns the largest F1 over all thresholds. It is chosen by the labels, so no detector can promise it."""
    if not counts.is_ranking:
        return None
    hits = np.cumsum(counts.positives[::-1])
    flagged = hits + np.cumsum(counts.negatives[::-1])
    return float((2 * hits / (flagged + hits[-1])).max())
