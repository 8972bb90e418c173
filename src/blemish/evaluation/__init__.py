"""Evaluates models on labelled images, and tests whether two models differ."""

from blemish.evaluation.evaluate import Evaluation, compared, evaluate
from blemish.evaluation.origin import Origin
from blemish.evaluation.per_image import Difference, PerImage

__all__ = [
    "Difference",
    "Evaluation",
    "Origin",
    "PerImage",
    "compared",
    "evaluate",
]
