"""Evaluates a model on labelled images."""

from blemish.evaluation.evaluate import Evaluation, evaluate, require_scipy

__all__ = [
    "Evaluation",
    "evaluate",
    "require_scipy",
]
