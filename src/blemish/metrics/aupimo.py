"""AUPIMO (Bertoldo et al. 2024): how much of a defect lies above thresholds that hardly any good pixel exceeds.

The PIMO curve of an anomalous image is its recall of defective pixels against the false positive rate of pixels. The
rate is measured on good images alone: it is the mean of each image's own rate. AUPIMO is the area under the curve
over the logarithm of the rate from 1e-5 to 1e-4, divided by the width of that range.

The order of the two integrals is exchanged here. With F(x) for the rate at a threshold x, a defective pixel of value x
lies above the threshold for all rates beyond F(x); so it is found over the share

    worth(x) = (log 1e-4 - log F(x)) / (log 1e-4 - log 1e-5),  cut to 0 and 1,

of the range, and AUPIMO of an image is the mean worth of its defective pixels. Where good pixels have the same value,
the two worths of counting and of not counting them are averaged: straight lines join the points of the curve.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from blemish.metrics.cells import MapCounts, grown
from blemish.metrics.ranking import Floats

AUPIMO_RATES = (1e-5, 1e-4)
"""False positive rates on good images between which the curve is integrated."""

LEAST_POINTS = 30
"""The curve must have more points than this in the range, as in the published code."""


@dataclass(frozen=True)
class Worths:
    """What a defective pixel adds to its image's AUPIMO, by the cell of its value.

    Attributes:
        start: the first cell; below it the worth is 0.
        worth: (k,), ascending; above its last cell, the highest of a good pixel, the worth is 1.
        tie_error: the largest possible difference of an AUPIMO from that of unrounded values.
    """

    start: int
    worth: Floats
    tie_error: float

    def aupimo(self, counts: MapCounts) -> float | None:
        """Returns the AUPIMO of one image, from 0 to 1; `None` if no pixel of it is defective."""
        if not counts.has_defect:
            return None
        first, beyond = np.searchsorted(counts.cells, [self.start, self.start + len(self.worth)])
        partly = counts.positives[first:beyond] * self.worth[counts.cells[first:beyond] - self.start]
        return float((partly.sum() + counts.positives[beyond:].sum()) / counts.positives.sum())


@dataclass
class NormalPixels:
    """The mean over good images of the share of pixels in each cell.

    `shares` (k,) are sums over `images`, from the cell `start`; they grow to the range of values seen.
    """

    start: int = 0
    shares: Floats = field(default_factory=lambda: np.zeros(0))
    images: int = 0

    def add(self, counts: MapCounts) -> NormalPixels:
        """Takes in the counts of one good image, in place; each image weighs the same, whatever its size."""
        self.start, self.shares = grown(self.start, self.shares, int(counts.cells[0]), int(counts.cells[-1]))
        self.shares[counts.cells - self.start] += counts.negatives / counts.negatives.sum()
        self.images += 1
        return self

    def worths(self, rates: tuple[float, float] = AUPIMO_RATES) -> Worths | None:
        """Returns what AUPIMO needs of the good images.

        It is `None` if they do not resolve the range of rates: the lower rate is below that of the highest value, or
        the curve has at most `LEAST_POINTS` points between the two rates. Maps of 256² pixels resolve 1e-5 to 1e-4 with
        6 good images or more, maps of 64² pixels with 84; more are needed if many pixels have the same value.
        """
        low, high = rates
        if not self.images:
            return None
        counted = np.cumsum(self.shares[::-1])[::-1] / self.images  # rate at each cell's lower edge
        first = int(np.count_nonzero(counted >= high))  # the first cell that is wholly inside the range
        edges = counted[max(0, first - 1) :]
        inside = np.unique(edges[(edges >= low) & (edges <= high)])
        if len(inside) <= LEAST_POINTS or edges[edges > 0][-1] > low:
            return None
        with np.errstate(divide="ignore"):  # the rate above the highest value is 0, and its worth 1
            worth = np.clip(np.log(high / np.append(edges, 0.0)) / np.log(high / low), 0, 1)
        return Worths(self.start + max(0, first - 1), (worth[1:] + worth[:-1]) / 2, float(np.diff(worth).max() / 2))
