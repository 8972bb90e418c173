"""Gives a fitted model a new calibration, from good images of another camera or under another light."""

from __future__ import annotations

import math
from dataclasses import replace

from blemish.calibration import EVERY, Gathered, check_rate, promised_rate, typical_and_highest
from blemish.datasets import Dataset
from blemish.datasets.sample import name_below
from blemish.engines.stream import Chunk, stream, whole
from blemish.errors import NAMED, BadImagesError, DegenerateError, ImageError, SourceError, as_number, number_of
from blemish.fitting.frames import Source, read_images, source_of
from blemish.model import Model
from blemish.model.change import asked_box_rate, asked_rate
from blemish.model.provenance import HISTORY, CalibratedOn, FormerCalibration, now
from blemish.progress import Progress, reported


def calibrate(
    model: Model,
    source: Source,
    *,
    false_alarm_rate: float | None = None,
    box_rate: float | None = None,
    progress: Progress | bool | None = None,
) -> Model:
    """Returns the model with a calibration from other good images, which it scores; what it learned stays.

    Its rates hold for images like these. The former calibration goes into `provenance.history`. How many of the images
    the model was fitted on is in `provenance.calibrated_on.seen`: such images have lower scores than new ones, so the
    rates do not hold where there are many of them.

    Args:
        model: fitted, or loaded.
        source: what `fit` takes; of a data set its training part is used. The images may have another size than those
            of the fit, or another layout.
        false_alarm_rate: what the threshold promises; by default the rate that was asked for before, or else 1 % or the
            lowest possible rate.
        box_rate: the share of good images that may show a box; by default the one that was asked for before, or else
            10 % or the lowest possible share.
        progress: called with the stage, and how many images of how many are done; `True` prints it.

    Raises:
        SourceError: there are fewer than two images.
        SettingError: they are too few for a rate, or a rate is out of range.
        BadImagesError: images cannot be read, or have no finite score; up to ten are named.
        DegenerateError: all images are the same picture.
    """
    dataset, _scratch = read_images(source, model.recipe.seed)
    paths = [sample.path for sample in dataset.train]
    if len(paths) < 2:
        raise SourceError(f"{dataset.root}: has {number_of(len(paths), 'good image')} to calibrate on; give at least 2")
    rate = asked_rate(model) if false_alarm_rate is None else as_number("false-alarm rate", false_alarm_rate)
    boxes = asked_box_rate(model) if box_rate is None else as_number("box rate", box_rate)
    for name, asked in (("false-alarm rate", rate), ("box rate", boxes)):
        if asked is not None:
            check_rate(name, asked, len(paths))
    told, former = model.provenance, model.calibration
    gathered, seen = gather_scores(model, dataset, reported(progress))
    if _all_same(gathered):
        raise DegenerateError(f"{dataset.root}: all {len(paths)} images are the same picture; give different ones")
    before = FormerCalibration(
        told.calibrated_on.created,
        told.calibrated_on.source,
        told.calibrated_on.images,
        former.rate,
        former.threshold,
        former.box_rate,
    )
    provenance = replace(
        told,
        calibrated_on=CalibratedOn(now(), source_of(dataset), len(paths), seen),
        history=(*told.history, before)[-HISTORY:],
    )
    calibration = gathered.finish(promised_rate(len(paths), None) if rate is None else rate, boxes)
    return Model(model.recipe, calibration, provenance, model.inside, model.engine, model.extractor, model.store)


def gather_scores(model: Model, dataset: Dataset, progress: Progress | None) -> tuple[Gathered, int]:
    """Returns a model's scores of all training images of a data set, and how many of them the model was fitted on.

    Raises:
        BadImagesError: an image has no score.
    """
    gathered, bad, seen = Gathered(), list[ImageError](), 0
    geometry, paths = model.recipe.geometry, [sample.path for sample in dataset.train]
    for scored in whole(map(_with_layers, stream(model.engine.explainer, paths, geometry)), geometry):
        if scored.map is not None:
            name = name_below(dataset.root, paths[scored.index])
            gathered.update(scored.score, scored.map, name, scored.digest, scored.layers)
            seen += scored.digest in model.inside
        elif scored.error is not None:
            bad.append(ImageError(paths[scored.index], scored.error.reason))
        if len(bad) > NAMED:
            break
        if progress:
            progress("calibrate", scored.index + 1, len(paths))
    if bad:
        raise BadImagesError(bad, "fix them, or leave them out")
    return gathered, seen


def _with_layers(chunk: Chunk) -> Chunk:
    """Returns a chunk with the typical and the highest values of its layers' maps in place of these maps."""
    if not chunk.arrays:
        return chunk
    scores, maps, *layers = chunk.arrays
    return replace(
        chunk, arrays=(scores, maps, *typical_and_highest((own[:, ::EVERY, ::EVERY] for own in layers), len(scores)))
    )


def _all_same(gathered: Gathered) -> bool:
    """Whether scores and maps of all images are alike, up to rounding."""
    columns = (gathered.scores, gathered.medians, gathered.maxima)
    return all(math.isclose(min(column), max(column), rel_tol=1e-6, abs_tol=1e-9) for column in columns)
