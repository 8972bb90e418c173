"""How well scores and maps tell anomalous from normal. Everything starts from counts by distinct value.

Counts come exactly from a few scores (`tally`), or from any number of pixels in bounded memory (`PixelTally`); the same
functions turn either into figures. A figure is `None` if it is undefined because one of the two classes is missing.
"""

from blemish.metrics.decisions import Decisions, f1_max
from blemish.metrics.ranking import RankCounts, auroc, average_precision, partial_area, roc_curve, tally
from blemish.metrics.regions import PixelTally

__all__ = [
    "Decisions",
    "PixelTally",
    "RankCounts",
    "auroc",
    "average_precision",
    "f1_max",
    "partial_area",
    "roc_curve",
    "tally",
]
