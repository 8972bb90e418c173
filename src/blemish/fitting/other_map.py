"""Gives a trained VAE another of its maps, with its own calibration: one training serves all columns of a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from blemish.calibration import promised_rate
from blemish.datasets import Dataset, Sample, read_source
from blemish.datasets.sample import name_below
from blemish.engines import Engine
from blemish.engines.stream import stream, tensors
from blemish.errors import SettingError, SourceError
from blemish.fitting.recalibrate import gather_scores
from blemish.images import Geometry
from blemish.model import Fitted, Learned, Model
from blemish.model.change import asked_box_rate, asked_rate
from blemish.model.provenance import now
from blemish.progress import Progress

if TYPE_CHECKING:
    from torch import Tensor

    from blemish.detectors import VAE


def with_map(
    model: Model,
    map: str,
    source: str | Path | Dataset,
    *,
    standardised: bool | None = None,
    progress: Progress | None = None,
) -> Model:
    """Returns a model of the same trained network whose map is another one; the given model is not changed.

    It is calibrated on the same images, at the same rates. If maps are standardised, mean and deviation of the new map
    come from the network's other training images.

    Args:
        model: of `vae` or `vae-grf`, calibrated on images that were held out.
        map: `mad`, `sm`, `mad-sm`, `l2`, `gradient`, `gradient-sm` or `projection`.
        source: what it was fitted on: a path, `layout:PATH`, or a data set that was read.
        standardised: as the detector's setting; by default as it is in the model.
        progress: called with the stage, and how many images of how many are done.

    Raises:
        SettingError: the detector has no other map, the map is not known, or the model was cross-fitted.
        SourceError: the source lacks images that calibrate the model, or has others by their names.
        BadImagesError: such an image cannot be read, or has no finite score.
        DegenerateError: what was learned is not finite.
    """
    from blemish.detectors import VAE
    from blemish.fitting.trained.learn import SETTLING

    before = model.learned.detector
    if not isinstance(before, VAE):
        raise SettingError(f"{before.name} has no map but its own; give a model of vae or vae-grf")
    if model.calibration.folds:
        raise SettingError(
            "the model was cross-fitted, and the networks that scored its images are not kept; fit it without --folds"
        )
    detector = before.with_map(map, standardised=before.standardised if standardised is None else standardised)
    dataset = source if isinstance(source, Dataset) else read_source(source, model.recipe.seed)
    calibrating, others = _parted(model, dataset)
    extractor, geometry = _extractor(model, detector), model.recipe.geometry
    if detector.standardised:
        drawn = np.random.default_rng([detector.seed, SETTLING]).permutation(len(others))[:SETTLING]
        detector.settle(_features(extractor, [others[place] for place in drawn.tolist()], geometry, progress))
    learned = Learned(detector, model.learned.weights, geometry.shape)
    engine = learned.scoring.after(extractor)
    recipe = replace(model.recipe, settings=detector.settings())
    told = model.provenance
    provenance = replace(told, calibrated_on=replace(told.calibrated_on, created=now()), engine=engine.name)
    new = Model(recipe, model.calibration, provenance, model.inside, engine, extractor, Fitted(learned, engine))
    gathered, _ = gather_scores(new, replace(dataset, train=calibrating), progress)
    if set(gathered.digests) != set(model.calibration.digests):
        raise SourceError(f"{dataset.root}: images have changed since the model was calibrated on them; fit it again")
    rate = asked_rate(model)
    new.calibration = gathered.finish(
        promised_rate(len(gathered), None) if rate is None else rate, asked_box_rate(model)
    )
    return new


def _parted(model: Model, dataset: Dataset) -> tuple[list[Sample], list[Sample]]:
    """Returns the images that calibrate a model, and the others. Raises `SourceError` if a former one is absent."""
    names = set(model.calibration.names)
    calibrating, others = list[Sample](), list[Sample]()
    for sample in dataset.train:
        (calibrating if name_below(dataset.root, sample.path) in names else others).append(sample)
    if len(calibrating) < len(names):
        raise SourceError(
            f"{dataset.root}: has {len(calibrating)} of the {len(names)} images that calibrate the model; give the "
            "source that it was fitted on"
        )
    return calibrating, others


def _extractor(model: Model, detector: VAE) -> Engine:
    """Returns the engine that gives the detector its images: the model's, or torch if the map needs gradients."""
    if not detector.needs_gradients or model.extractor.name == "torch":
        return model.extractor
    from blemish.backbones.pixels import PixelBackbone
    from blemish.engines.torch_engine import TorchEngine

    return TorchEngine(PixelBackbone())


def _features(
    extractor: Engine, samples: Sequence[Sample], geometry: Geometry, progress: Progress | None
) -> Iterator[list[Tensor]]:
    """Yields batches of images; those that cannot be read are left out."""
    done = 0
    for chunk in stream(extractor, [sample.path for sample in samples], geometry):
        if chunk.indices:
            yield tensors(chunk.arrays)
        done += chunk.finished
        if progress:
            progress("settle", done, len(samples))
