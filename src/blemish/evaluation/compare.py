"""Compares detectors and qualities on the user's own images: time, size, and how well each detects."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from blemish.datasets import Dataset, evenly_spaced, read_source
from blemish.errors import SettingError
from blemish.evaluation.evaluate import evaluate
from blemish.fitting import Plan, fit
from blemish.fitting.quality import BALANCED, QUALITIES, find_quality
from blemish.model import Model
from blemish.progress import Progress
from blemish.storage import Scratch, check_free

DETECTOR = "fre"
"""Fitted at every quality by default."""

OTHERS = ("padim", "gaussian")
"""Also fitted at `BALANCED` by default."""

TIMED = 64
"""Images that are timed, at most."""

Announce = Callable[["Entrant", Plan], None]


@dataclass(frozen=True)
class Entrant:
    """What is fitted.

    Attributes:
        detector: its name.
        quality: one of `QUALITIES`; `None` for a detector that needs no backbone.
    """

    detector: str
    quality: str | None

    def __str__(self) -> str:
        return self.detector if self.quality is None else f"{self.detector}, {self.quality}"


@dataclass(frozen=True)
class Detection:
    """How well a model detects on the labelled images. Figures are between 0 and 1; an undefined one is `None`.

    Attributes:
        image_auroc: of the images' scores.
        pixel_auroc, aupro: of the maps; `None` without masks.
        false_alarm_rate: share of good images above the threshold.
        detection_rate: share of anomalous images above it.
        unreadable: how many labelled images could not be read; the figures leave them out.
    """

    image_auroc: float | None
    pixel_auroc: float | None
    aupro: float | None
    false_alarm_rate: float | None
    detection_rate: float | None
    unreadable: int


@dataclass(frozen=True)
class Compared:
    """One fit.

    Attributes:
        detector, quality: as they were asked for.
        backbone: timm's name, or `pixels`.
        shape: height and width of the model's input.
        copies: shifted copies of each image that the model learned from.
        fit_seconds: wall time of learning and calibrating, with decoding but without loading the network.
        seconds_per_image: wall time of predicting, decoding included.
        bytes: of the saved model.
        images: how many images calibrated it.
        folds: of the cross-fit; 0 if these images were held out.
        stated_rate: the stated false-alarm rate.
        detection: on the labelled images; `None` if there are none.
    """

    detector: str
    quality: str | None
    backbone: str
    shape: tuple[int, int]
    copies: int
    fit_seconds: float
    seconds_per_image: float
    bytes: int
    images: int
    folds: int
    stated_rate: float
    detection: Detection | None

    @property
    def name(self) -> str:
        """Detector and quality."""
        return str(Entrant(self.detector, self.quality))


@dataclass(frozen=True)
class Comparison:
    """The result of `compare`.

    Attributes:
        dataset: the data that all models were fitted on.
        rows: one for each fit, in order.
    """

    dataset: Dataset
    rows: list[Compared]

    @property
    def missing(self) -> str | None:
        """A line that says which figures are missing and what they would need; `None` if none is missing."""
        test = self.dataset.test
        kinds = {sample.is_anomalous for sample in test}
        if not test:
            return (
                "no labelled images, so only time and size can be compared; to compare detection, give a tree with "
                "test/good and test/<defect> folders"
            )
        if len(kinds) < 2:
            there, absent = ("good", "anomalous") if kinds == {False} else ("anomalous", "good")
            return f"all labelled images are {there}; the image AUROC needs {absent} ones too"
        return None if self.dataset.has_masks else "no masks, so there are no pixel figures"

    @property
    def unreadable(self) -> int:
        """How many labelled images could not be read."""
        return max((row.detection.unreadable for row in self.rows if row.detection), default=0)

    def as_dict(self) -> dict[str, Any]:
        """Returns the figures as JSON values."""
        return {"source": self.dataset.root, "missing": self.missing, "rows": [asdict(row) for row in self.rows]}


def compare(
    source: str | Path | Dataset,
    *,
    qualities: Sequence[str] | None = None,
    detectors: Sequence[str] | None = None,
    tile: int | None = None,
    false_alarm_rate: float | None = None,
    seed: int = 0,
    engine: str = "auto",
    device: str = "auto",
    skip_bad: bool = False,
    out: str | Path | None = None,
    force: bool = False,
    progress: Progress | None = None,
    announce: Announce | None = None,
) -> Comparison:
    """Fits several detectors and qualities on the same images; returns the time, size and detection of each.

    By default these are `fre` at every quality, and `padim` and `gaussian` at `balanced`. The layers of detectors
    differ, so the backbone runs once for each fit.

    Args:
        source: a path, `layout:PATH`, or a data set that was read. Models are fitted on its training part and evaluated
            on its test part, if there is one.
        qualities: names, each used for every detector; `balanced` if only detectors are given.
        detectors: names; `fre` if only qualities are given. A detector that needs no backbone is fitted once.
        tile, false_alarm_rate, seed, engine, device, skip_bad: as in `fit`, for all.
        out: a folder to keep the models in, as `<detector>-<quality>.blemish`.
        force: replace models that are there.
        progress: called with the stage, and how many images of how many are done.
        announce: called before each pass over the images, with what is fitted and what it will need.

    Raises:
        BlemishError: as in `fit` and `evaluate`. Names and the places of models are checked first.
    """
    entrants = enter(qualities, detectors)
    dataset = source if isinstance(source, Dataset) else read_source(source, seed)
    folder = None if out is None else Path(out)
    places = [None if folder is None else folder / _file(entrant) for entrant in entrants]
    for place in places:
        if place is not None:
            check_free(place, "model", force=force)
    fitting = partial(
        fit,
        dataset,
        tile=tile,
        false_alarm_rate=false_alarm_rate,
        seed=seed,
        engine=engine,
        device=device,
        skip_bad=skip_bad,
        progress=progress,
    )
    rows = []
    for entrant, place in zip(entrants, places, strict=True):
        model, seconds = _timed(fitting, entrant, announce)
        rows.append(_measured(model, entrant, dataset, seconds, place, force, progress))
        del model  # before the next one takes its memory
    return Comparison(dataset, rows)


def enter(qualities: Sequence[str] | None, detectors: Sequence[str] | None) -> list[Entrant]:
    """Returns what `compare` fits, in order, each once.

    Raises:
        SettingError: a quality or a detector is not known, or none is given.
    """
    from blemish.detectors import find_detector

    for name in qualities or ():
        find_quality(name)
    for name in detectors or ():
        find_detector(name)
    if (qualities is not None and not qualities) or (detectors is not None and not detectors):
        raise SettingError("there is nothing to compare; give one or more names, or leave both out for the default")
    if qualities is None and detectors is None:
        found = [Entrant(DETECTOR, quality) for quality in QUALITIES] + [Entrant(other, BALANCED) for other in OTHERS]
    else:
        pairs = itertools.product(detectors or (DETECTOR,), qualities or (BALANCED,))
        found = [Entrant(name, None if find_detector(name).sees_pixels else quality) for name, quality in pairs]
    return list(dict.fromkeys(found))


def _timed(fitting: Callable[..., Model], entrant: Entrant, announce: Announce | None) -> tuple[Model, float]:
    """Returns the fitted model, and the seconds of its fit after its network was loaded and its plan was made."""
    started = 0.0

    def planned(plan: Plan) -> None:
        nonlocal started
        if announce:
            announce(entrant, plan)
        started = time.perf_counter()

    model = fitting(detector=entrant.detector, quality=entrant.quality, announce=planned)
    return model, time.perf_counter() - started


def _file(entrant: Entrant) -> str:
    return "-".join(part for part in (entrant.detector, entrant.quality) if part) + ".blemish"


def _measured(
    model: Model,
    entrant: Entrant,
    dataset: Dataset,
    seconds: float,
    place: Path | None,
    force: bool,
    progress: Progress | None,
) -> Compared:
    """Returns the figures of one fitted model, and saves it if a place is given."""
    recipe, calibration = model.recipe, model.calibration
    return Compared(
        detector=entrant.detector,
        quality=entrant.quality,
        backbone=recipe.backbone,
        shape=recipe.geometry.shape,
        copies=recipe.copies,
        fit_seconds=seconds,
        seconds_per_image=_seconds_per_image(model, dataset),
        bytes=_saved_bytes(model, place, force),
        images=len(calibration.scores),
        folds=calibration.folds,
        stated_rate=calibration.rate,
        detection=_detection(model, dataset, progress) if dataset.test else None,
    )


def _seconds_per_image(model: Model, dataset: Dataset) -> float:
    """Returns the mean seconds for some images of the test part, or else of the training part."""
    samples = dataset.test or dataset.train
    paths = [samples[index].path for index in evenly_spaced(len(samples), TIMED)]
    for _ in model.predict(paths, errors="keep"):  # compiles the graphs and fills the system's file cache
        pass
    start = time.perf_counter()
    for _ in model.predict(paths, errors="keep"):
        pass
    return (time.perf_counter() - start) / len(paths)


def _saved_bytes(model: Model, place: Path | None, force: bool) -> int:
    """Returns the size of the saved model's files."""
    if place is None:
        with Scratch() as scratch:
            return _saved_bytes(model, scratch.path / "model", force=False)
    model.save(place, force=force)
    return sum(file.stat().st_size for file in place.iterdir())


def _detection(model: Model, dataset: Dataset, progress: Progress | None) -> Detection:
    found = evaluate(model, dataset, progress)
    return Detection(
        image_auroc=found.image["auroc"],
        pixel_auroc=found.pixel["auroc"],
        aupro=found.pixel["aupro"],
        false_alarm_rate=found.decisions["false_alarm_rate"],
        detection_rate=found.decisions["detection_rate"],
        unreadable=len(found.unreadable),
    )
