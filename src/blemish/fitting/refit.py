"""Fits a model again with another detector, or with other settings of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from blemish.calibration import lowest_rate
from blemish.datasets import Dataset, read_source
from blemish.errors import SourceError
from blemish.fitting.plan import free_memory
from blemish.fitting.split import Calibrating, divide, images_digest
from blemish.fitting.work import Options, prepare, run
from blemish.model import Model
from blemish.model.change import asked_box_rate, asked_rate
from blemish.progress import Progress

if TYPE_CHECKING:
    from blemish.detectors import Detector


def refit(
    model: Model, detector: Detector, source: str | Path | Dataset | None = None, progress: Progress | None = None
) -> Model:
    """Returns a model with another detector: same images, features, hold-out and rates.

    If the model was calibrated since at a rate that these images cannot promise, the lowest rate that they can promise
    is used.

    Args:
        model: fitted.
        detector: not fitted yet.
        source: the images that the model was fitted on; by default read from where they were then.
        progress: called with the stage, and how many images of how many are done.

    Raises:
        BlemishError: as `fit` does; a `SourceError` if the images are no longer there, or are others.
    """
    from blemish.detectors import Trained
    from blemish.engines.extractor import Extractor

    told, recipe = model.provenance, model.recipe
    dataset = source if isinstance(source, Dataset) else read_source(source or told.source, recipe.seed)
    check_images(model, dataset)
    lowest = lowest_rate(told.held_out or told.images)  # a rate asked for on more images since may be lower
    rates = (None if rate is None else max(rate, lowest) for rate in (asked_rate(model), asked_box_rate(model)))
    calibrating = Calibrating(None, told.calibration_folds, told.calibration_share, *rates)
    crosses = told.held_out == 0
    images = divide(dataset, recipe.seed, calibrating, crosses=crosses, trained=isinstance(detector, Trained))
    extractor = Extractor(
        model.extractor, recipe.layers, recipe.shapes, model.learned.weights, told.weights, recipe.normalisation
    )
    detector.expect(recipe.copies, free_memory())
    changed = replace(recipe, detector=detector.name, settings=detector.settings())
    return run(prepare(detector, extractor, changed, images, Options(told.skipped > 0, bool(told.trimmed), progress)))


def check_images(model: Model, dataset: Dataset) -> None:
    """Raises `SourceError` if the training part holds other images than those that the model was fitted on."""
    told = model.provenance
    if len(told.changes) > 1:
        raise SourceError(
            f"{dataset.root}: the model was changed since its fit ({told.changes[-1].kind}), so its images are not in "
            "one place; fit it again on all of them"
        )
    if images_digest([sample.path for sample in dataset.train]) != told.images_digest:
        now, then = len(dataset.train), told.images + told.skipped + told.repeated + len(told.trimmed)
        raise SourceError(
            f"{dataset.root}: holds other images than the model was fitted on ({now} now, {then} then); "
            "give the images that it was fitted on"
        )
