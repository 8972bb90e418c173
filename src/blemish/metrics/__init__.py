"""How well scores and maps tell anomalous images from good ones. Everything starts from counts by distinct value.

Counts come exactly from a few scores (`tally`), or from any number of pixels in bounded memory (`MapCounts` of one map,
`PixelTally` of many); the same functions turn either into figures. A figure is `None` if it is undefined, most often
because one of the two classes is missing. Figures of images have an `interval`.
"""

from blemish.metrics.aupimo import AUPIMO_RATES, NormalPixels, Worths
from blemish.metrics.cells import MapCounts
from blemish.metrics.decisions import Decisions, f1_max
from blemish.metrics.image_cells import ImageCells
from blemish.metrics.intervals import Interval, auroc_interval, interval
from blemish.metrics.ranking import (
    RankCounts,
    auroc,
    average_precision,
    partial_area,
    precision_recall_curve,
    roc_curve,
    tally,
)
from blemish.metrics.regions import PixelTally

__all__ = [
    "AUPIMO_RATES",
    "Decisions",
    "ImageCells",
    "Interval",
    "MapCounts",
    "NormalPixels",
    "PixelTally",
    "RankCounts",
    "Worths",
    "auroc",
    "auroc_interval",
    "average_precision",
    "f1_max",
    "interval",
    "partial_area",
    "precision_recall_curve",
    "roc_curve",
    "tally",
]
