"""The one-class protocol: each class of a data set in turn is normal, and all others are anomalous."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from blemish.datasets import classes, read_source
from blemish.errors import SettingError, SourceError
from blemish.evaluation.evaluate import evaluate
from blemish.fitting import fit
from blemish.progress import Progress

PLACES = {
    "mnist": ("mnist.npz", "mnist"),
    "fashion-mnist": ("fashion-mnist.npz", "fashion-mnist"),
    "cifar10": ("cifar10.npz", "cifar-10-batches-py", "cifar10"),
}
"""Names under which the files of a data set are looked for."""

PUBLISHED = {
    "mnist": {"HFR, ResNet-18": 0.985, "HFR, Wide ResNet-50-2": 0.990},
    "fashion-mnist": {"HFR, ResNet-18": 0.939, "HFR, Wide ResNet-50-2": 0.948},
    "cifar10": {"HFR, ResNet-18": 0.577, "HFR, Wide ResNet-50-2": 0.663},
}
"""Image AUROC from the paper on HFR, mean over the ten classes."""

IMAGES = 2000
"""Training images of a class, at most."""

SIZE = 96
"""Pixels to which images are enlarged."""


@dataclass(frozen=True)
class ClassResult:
    """Result with one class as normal: images to fit on and to test, image AUROC, and the seconds of both."""

    kind: str
    train: int
    test: int
    auroc: float
    fit_seconds: float
    predict_seconds: float


def find_files(dataset: str, path: str | Path | None = None) -> Path:
    """Returns the path of a data set's files: the one given, or one of their usual names in the current folder.

    Raises:
        SettingError: the data set is not known.
        SourceError: the files do not exist.
    """
    if dataset not in PLACES:
        raise SettingError(f"data set {dataset!r} is not known; give one of {', '.join(PLACES)}")
    places = [Path(path)] if path is not None else [Path(place) for place in PLACES[dataset]]
    for place in places:
        if place.exists():
            return place
    raise SourceError(f"{' or '.join(map(str, places))}: no such file or folder; fetch {dataset}, or give its --path")


def one_class(
    path: str | Path, *, images: int = IMAGES, seed: int = 0, progress: Progress | None = None, **settings: Any
) -> Iterator[ClassResult]:
    """Yields for each class, in order, the result of a fit on it, tested on all test images of all classes.

    Args:
        path: of the files, as the source `one_class:PATH:CLASS` takes it.
        images: training images of a class at most, drawn by the seed.
        seed: of the draw and of the fits.
        progress: called with the stage, and how many images of how many are done.
        settings: further arguments of `fit`; the size is 96 by default.

    Raises:
        SourceError: the files are absent, damaged, or have too few images of a class.
        SettingError: fewer than two images are asked for, or `fit` does not know a setting.
    """
    if images < 2:
        raise SettingError(f"{images} images are too few to fit; give 2 or more")
    kinds = classes(str(path))
    settings.setdefault("size", SIZE)
    for kind in kinds:
        dataset = read_source(f"one_class:{path}:{kind}")
        drawn = np.random.default_rng(seed).permutation(len(dataset.train))[:images]
        dataset = replace(dataset, train=[dataset.train[index] for index in sorted(drawn)])
        start = time.perf_counter()
        model = fit(dataset, seed=seed, progress=progress, **settings)
        fitted = time.perf_counter()
        evaluation = evaluate(model, dataset, progress)
        done = time.perf_counter()
        auroc = evaluation.image["auroc"]
        if auroc is None:
            raise SourceError(f"{path}: has no test images of class {kind}, or of no other; its AUROC is undefined")
        yield ClassResult(kind, len(dataset.train), len(dataset.test), auroc, fitted - start, done - fitted)
