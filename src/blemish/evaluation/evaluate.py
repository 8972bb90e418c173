"""Evaluates a model on labelled images: figures of images, of pixels, of decisions at the threshold, and by class."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial, reduce
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.calibration import Calibration, lowest_rate
from blemish.datasets import GOOD, Dataset, Sample, read_source, read_truth, true_boxes
from blemish.errors import ImageError, SourceError, require
from blemish.images import Geometry, decode_ahead, waiting
from blemish.images.files import MAX_PIXELS
from blemish.maps import Box, matched
from blemish.metrics import Decisions, PixelTally, RankCounts, auroc, average_precision, f1_max, tally
from blemish.model import Model, Prediction
from blemish.progress import Progress

RATES = (0.005, 0.01, 0.02, 0.05, 0.1)
"""False-alarm rates that are compared, as far as the calibration allows them."""

OVERLAPS = (0.3, 0.5)
"""Least overlaps at which a box matches a true one."""


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found. Figures lie between 0 and 1; an undefined one is `None`.

    Attributes:
        dataset: what was evaluated on.
        image: `auroc`, `aupr`, `f1_max`, and the counts `normal` and `anomalous`.
        pixel: `auroc`, `aupr`, `aupro`; all `None` if there are no masks.
        decisions: `threshold`, the `stated_rate`, the realised `false_alarm_rate` and `detection_rate`, and
            `false_alarms_by_chance`, the range of counts that the stated rate gives in 95 of 100 cases.
        rates: for each of `RATES` that the calibration allows: the `rate`, its `threshold`, and the realised
            `false_alarm_rate` and `detection_rate`.
        boxes: found around what lies above the `level` for boxes, whose stated rate is `box_rate`, compared with boxes
            around the masks' parts: the counts `found` and `true`; `good_with_boxes`, the realised share of good
            images that show any; and in `overlaps` for each of `OVERLAPS` the `iou`, `matched`, `precision`, `recall`,
            `f1`, and `false_per_image`, boxes without a match for each image. Empty if there are no masks.
        per_class: for each class of anomaly against all good images `image`, `pixel` and `detection_rate`, and the
            `count` of its images.
        seconds_per_image: wall time, with decoding and ground truth.
        results: samples with their predictions (without maps), in order.
        unreadable: predictions that have an error instead of a score.
        pixels: counts of the maps' values against the masks.
    """

    dataset: Dataset
    image: dict[str, float | None]
    pixel: dict[str, float | None]
    decisions: dict[str, Any]
    rates: list[dict[str, Any]]
    boxes: dict[str, Any]
    per_class: dict[str, dict[str, Any]]
    seconds_per_image: float
    results: list[tuple[Sample, Prediction]]
    unreadable: list[Prediction]
    pixels: PixelTally

    def as_dict(self) -> dict[str, Any]:
        """Returns the figures, as JSON can hold them."""
        return {
            "image": self.image,
            "pixel": self.pixel,
            "decisions": self.decisions,
            "rates": self.rates,
            "boxes": self.boxes,
            "per_class": self.per_class,
            "seconds_per_image": self.seconds_per_image,
            "images": len(self.results),
            "unreadable": len(self.unreadable),
        }

    @property
    def counts(self) -> RankCounts:
        """Counts of the images' scores."""
        return _tally(self.results)


def require_scipy() -> None:
    """Raises `MissingExtraError` if scipy is not installed, which the figures need."""
    require("scipy.ndimage", "scipy.stats", of="evaluating", extra="report")


def evaluate(model: Model, source: str | Path | Dataset, progress: Progress | None = None) -> Evaluation:
    """Returns the figures of a model on the test part of a source.

    Pixels are counted at the model's input size, or at a photograph's own if it is cut into tiles.

    Args:
        model: fitted; its seed decides the split of sources that have none of their own.
        source: a path, `layout:PATH`, or a data set that was read.
        progress: called with the stage, and how many images of how many are done.

    Raises:
        MissingExtraError: scipy is not installed; no image is scored then.
        SourceError: the source has no test part, or none of its images can be read.
        ImageError: a mask is unreadable or of another size than its image.
    """
    require_scipy()
    dataset = source if isinstance(source, Dataset) else read_source(source, model.recipe.seed)
    samples = dataset.test
    if not samples:
        raise SourceError(
            f"{dataset.root}: has no labelled images to evaluate on ({dataset.layout}); "
            "give a tree with test/good and test/<defect> folders"
        )
    start = time.perf_counter()
    counted = _counted(model, dataset, progress)
    seconds = (time.perf_counter() - start) / len(samples)
    results = counted.results
    if not results:
        reason = counted.unreadable[0].error
        raise SourceError(f"{dataset.root}: none of its {len(samples)} test images can be read; {reason}")
    everything = reduce(PixelTally.merge, counted.tallies.values(), PixelTally())
    decisions = _decisions(results, model.threshold)
    return Evaluation(
        dataset=dataset,
        image={**_image_figures(results), "normal": decisions.normal, "anomalous": decisions.anomalous},
        pixel=everything.figures(),
        decisions={
            "threshold": model.threshold,
            "stated_rate": model.calibration.rate,
            "false_alarm_rate": decisions.false_alarm_rate,
            "detection_rate": decisions.detection_rate,
            "false_alarms_by_chance": (
                list(model.calibration.false_alarms_by_chance(decisions.normal)) if decisions.normal else None
            ),
        },
        rates=_by_rate(model.calibration, results),
        boxes=_box_figures(model.calibration, counted) if dataset.has_masks else {},
        per_class=_per_class(results, counted.tallies, model.threshold),
        seconds_per_image=seconds,
        results=results,
        unreadable=counted.unreadable,
        pixels=everything,
    )


@dataclass
class _Counted:
    """Results without maps, pixels by class, and counts of boxes.

    Attributes:
        found, true: boxes in all images.
        matched: boxes that match a true one, at each of `OVERLAPS`.
        good_with_boxes: good images in which any box was found.
    """

    results: list[tuple[Sample, Prediction]] = field(default_factory=list)
    unreadable: list[Prediction] = field(default_factory=list)
    tallies: dict[str, PixelTally] = field(default_factory=dict)
    found: int = 0
    true: int = 0
    matched: list[int] = field(default_factory=lambda: [0] * len(OVERLAPS))
    good_with_boxes: int = 0

    def update_boxes(self, found: list[Box], true: list[Box], sample: Sample) -> None:
        self.found += len(found)
        self.true += len(true)
        self.matched = [count + matched(found, true, iou) for count, iou in zip(self.matched, OVERLAPS, strict=True)]
        self.good_with_boxes += bool(found) and not sample.is_anomalous


def _counted(model: Model, dataset: Dataset, progress: Progress | None) -> _Counted:
    """Returns counts over the predicted test part. Raises `ImageError` if a mask cannot be used."""
    samples, counted = dataset.test, _Counted()
    predictions = model.judge([sample.path for sample in samples], progress)
    masks = _masks(samples, model.recipe.geometry) if dataset.has_masks else iter([None] * len(samples))
    for sample, prediction, mask in zip(samples, predictions, masks, strict=True):
        if prediction.error is not None or prediction.map is None:
            counted.unreadable.append(prediction)
            continue
        if isinstance(mask, ImageError):
            raise mask
        if mask is not None:
            counted.tallies.setdefault(sample.kind, PixelTally()).update(prediction.map, mask)
            true = true_boxes(sample, mask, model.recipe.geometry)
            counted.update_boxes(model.boxes(prediction.map), true, sample)
        counted.results.append((sample, replace(prediction, map=None, boxes=())))
    return counted


def _per_class(
    results: list[tuple[Sample, Prediction]], tallies: dict[str, PixelTally], threshold: float
) -> dict[str, dict[str, Any]]:
    """Returns the figures of each class of anomaly, against all good images."""
    good, found = tallies.get(GOOD, PixelTally()), {}
    for kind in sorted({sample.kind for sample, _ in results} - {GOOD}):
        chosen = [result for result in results if result[0].kind in {kind, GOOD}]
        found[kind] = {
            "count": sum(sample.kind == kind for sample, _ in chosen),
            "image": _image_figures(chosen),
            "pixel": good.merge(tallies.get(kind, PixelTally())).figures(),
            "detection_rate": _decisions(chosen, threshold).detection_rate,
        }
    return found


def _masks(samples: list[Sample], geometry: Geometry) -> Iterator[NDArray[np.bool_] | ImageError]:
    """Yields ground truth of the size of the maps, in order, or its error; an image without a mask has no defect."""
    size = geometry.shape[0] * geometry.shape[1] if geometry.tile is None else MAX_PIXELS
    return decode_ahead(partial(read_truth, geometry=geometry), samples, ahead=waiting(size, 32))


def _tally(results: list[tuple[Sample, Prediction]]) -> RankCounts:
    return tally([p.score for _, p in results], [sample.is_anomalous for sample, _ in results])


def _image_figures(results: list[tuple[Sample, Prediction]]) -> dict[str, float | None]:
    counts = _tally(results)
    return {"auroc": auroc(counts), "aupr": average_precision(counts), "f1_max": f1_max(counts)}


def _by_rate(calibration: Calibration, results: list[tuple[Sample, Prediction]]) -> list[dict[str, Any]]:
    """Returns the decisions at each of `RATES` that the calibration allows."""
    rows = []
    for rate in RATES:
        if rate >= lowest_rate(len(calibration.scores)) - 1e-12:
            threshold = calibration.at(rate=rate).threshold
            decisions = _decisions(results, threshold)
            realised = {
                "false_alarm_rate": decisions.false_alarm_rate,
                "detection_rate": decisions.detection_rate,
            }
            rows.append({"rate": rate, "threshold": threshold, **realised})
    return rows


def _box_figures(calibration: Calibration, counted: _Counted) -> dict[str, Any]:
    found, true, images = counted.found, counted.true, len(counted.results)
    good = sum(not sample.is_anomalous for sample, _ in counted.results)
    overlaps = [
        {
            "iou": iou,
            "matched": met,
            "precision": met / found if found else None,
            "recall": met / true if true else None,
            "f1": 2 * met / (found + true) if found + true else None,
            "false_per_image": (found - met) / images,
        }
        for iou, met in zip(OVERLAPS, counted.matched, strict=True)
    ]
    return {
        "box_rate": calibration.box_rate,
        "level": calibration.box_level,
        "found": found,
        "true": true,
        "good_with_boxes": counted.good_with_boxes / good if good else None,
        "overlaps": overlaps,
    }


def _decisions(results: list[tuple[Sample, Prediction]], threshold: float) -> Decisions:
    return Decisions.count([p.score > threshold for _, p in results], [sample.is_anomalous for sample, _ in results])
