"""Measures one entry on one category: fits a model, and evaluates it."""

from __future__ import annotations

import copy
import gc
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from blemish.datasets import Dataset, evenly_spaced
from blemish.detectors.scoring import Scoring
from blemish.errors import SettingError, SourceError
from blemish.evaluation import Evaluation, PerImage, evaluate
from blemish.fitting import fit
from blemish.model import Fitted, Learned, Model
from blemish.progress import Progress

TIMED = 64
"""Images that are timed, at most."""


@dataclass
class Measured:
    """What was measured.

    Attributes:
        figures: by name.
        per_image: figures of each test image.
        seconds: of the fit and of the evaluation.
        model: the fitted model.
        is_whole: whether saving the model saves all that was measured; false if it runs together with other models.
    """

    figures: dict[str, Any]
    per_image: PerImage | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    model: Model | None = None
    is_whole: bool = True


@dataclass
class Bench:
    """What a measure works with.

    Attributes:
        dataset: with a training part to fit on and a test part to evaluate on.
        seed: of the fit.
        progress: called with the stage, and how many images of how many are done.
        trainings: a folder for checkpoints and logs of trained detectors; `None` if they are not kept.
        training: the folder with the checkpoints of the last fit, if they are kept.
        last: the arguments, model and seconds of the last fit, which the next entry may share.
    """

    dataset: Dataset
    seed: int = 0
    progress: Progress | None = None
    trainings: Path | None = None
    training: Path | None = None
    last: tuple[dict[str, Any], Model, float] | None = None

    def fitted(self, arguments: Mapping[str, Any]) -> tuple[Model, float]:
        """Returns a model and the seconds of its fit, counted from when the network was ready; the last model, if it
        has the same arguments.
        """
        wanted = dict(arguments)
        self.release(wanted)  # before the next one takes its memory
        if self.last is not None:
            return self.last[1:]
        self.training = None
        begun = [time.perf_counter()]
        if self.trainings is not None and trains(wanted):
            told = json.dumps([wanted, self.seed, self.dataset.root, len(self.dataset.train)], default=str)
            self.training = self.trainings / hashlib.sha256(told.encode()).hexdigest()[:16]
            wanted |= {"checkpoints": self.training, "resume": True}
        model = fit(
            self.dataset,
            seed=self.seed,
            progress=self.progress,
            announce=lambda plan: begun.append(time.perf_counter()),
            **wanted,
        )
        self.last = (dict(arguments), model, time.perf_counter() - begun[-1])
        return self.last[1:]

    def release(self, arguments: Mapping[str, Any] | None = None) -> None:
        """Forgets the last fit and frees its memory, unless it has these arguments."""
        if self.last is not None and self.last[0] != arguments:
            self.last = self.training = None
            gc.collect()


Measure = Callable[[Bench, Mapping[str, Any], Mapping[str, Any]], Measured]
"""Takes a bench, the arguments of a fit, and settings that are changed after it; returns what was measured."""


def detector_of(arguments: Mapping[str, Any]) -> str:
    """Returns the name of the detector that these arguments of `fit` name."""
    from blemish.fitting.presets import find_preset

    preset = arguments.get("preset")
    return str(arguments.get("detector") or (find_preset(preset).detector if preset else "fre"))


def trains(arguments: Mapping[str, Any]) -> bool:
    """Returns whether these arguments of `fit` name a trained detector."""
    from blemish.detectors import DETECTORS, Trained

    return issubclass(DETECTORS[detector_of(arguments)], Trained)


def fit_and_evaluate(bench: Bench, arguments: Mapping[str, Any], view: Mapping[str, Any]) -> Measured:
    """Returns the figures of a model on the test part."""
    model, seconds = bench.fitted(arguments)
    return evaluated(bench, viewed(model, view) if view else model, {"fit": seconds})


def evaluated(bench: Bench, model: Model, seconds: Mapping[str, float]) -> Measured:
    """Returns the figures of a model on the test part, with the given seconds and those of the evaluation.

    Raises:
        SourceError: a test image cannot be read.
    """
    start = time.perf_counter()
    evaluation = evaluate(model, bench.dataset, bench.progress)
    if evaluation.unreadable:
        first, bad = evaluation.unreadable[0], len(evaluation.unreadable)
        raise SourceError(
            f"{bench.dataset.root}: {bad} of {len(bench.dataset.test)} test images cannot be read, such as "
            f"{first.path} ({first.error}); a table needs all of them"
        )
    taken = {**seconds, "evaluate": time.perf_counter() - start}
    return Measured(figures(evaluation), evaluation.per_image, taken, model)


def fit_and_time(bench: Bench, arguments: Mapping[str, Any], view: Mapping[str, Any]) -> Measured:
    """Returns the figures, and `fit_seconds` and `images_per_second`, decoding included."""
    measured = fit_and_evaluate(bench, arguments, view)
    assert measured.model is not None  # noqa: S101  # what it gives
    samples = bench.dataset.test
    paths = [samples[index].path for index in evenly_spaced(len(samples), TIMED)]
    start = time.perf_counter()
    for _ in measured.model.judge(paths):
        pass
    measured.figures["fit_seconds"] = measured.seconds["fit"]
    measured.figures["images_per_second"] = len(paths) / (time.perf_counter() - start)
    return measured


def viewed(model: Model, view: Mapping[str, Any]) -> Model:
    """Returns the model with other settings of its detector, such as its map; the threshold is no longer valid.

    Raises:
        SettingError: the detector has no setting of that name.
    """
    detector = copy.copy(model.learned.detector)
    unknown = set(view) - set(detector.setting_names())
    if unknown:
        raise SettingError(f"{detector.name} has no setting {min(unknown)!r}; see docs/detectors.md")
    for name, value in view.items():
        setattr(detector, name, value)
    other = copy.copy(model)
    other.__dict__.pop("learned", None)
    other.recipe = replace(model.recipe, settings=detector.settings())
    other.engine = Scoring(detector, model.recipe.geometry.shape).after(model.extractor)
    other.store = Fitted(Learned(detector, model.learned.weights, model.recipe.geometry.shape), other.engine)
    return other


def figures(evaluation: Evaluation) -> dict[str, Any]:
    """Returns the figures of an evaluation by names such as `image.auroc`."""
    found: dict[str, Any] = {f"image.{name}": value for name, value in evaluation.image.items()}
    found |= {f"pixel.{name}": value for name, value in evaluation.pixel.items()}
    found |= {f"classes.{name}": value for name, value in evaluation.class_means.items()}
    for name, bounds in evaluation.intervals.items():
        found[f"interval.{name}"] = None if bounds is None else [bounds.low, bounds.high]
    for at in evaluation.boxes.get("overlaps", []):
        found |= {f"boxes.{name}@{at['iou']}": at[name] for name in ("f1", "precision", "recall")}
    return found
