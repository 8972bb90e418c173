"""Evaluates a model on labelled images: figures of images, of pixels, of decisions at the threshold, and by class."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property, reduce
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.calibration import Calibration, lowest_rate
from blemish.datasets import GOOD, Dataset, Sample, read_source
from blemish.errors import SettingError, SourceError, number_of
from blemish.evaluation.counting import OVERLAPS, Counts, count
from blemish.evaluation.origin import Origin
from blemish.evaluation.per_image import Difference, PerImage, differences
from blemish.metrics import Decisions, Interval, PixelTally, RankCounts, auroc, average_precision, f1_max, tally
from blemish.model import Model, Prediction
from blemish.progress import Progress, reported

RATES = (0.005, 0.01, 0.02, 0.05, 0.1)
"""False-alarm rates that are compared, if the calibration allows them."""


@dataclass(frozen=True)
class Evaluation:
    """The result of `evaluate`. Figures are between 0 and 1; an undefined one is `None`.

    Attributes:
        dataset: the data of the evaluation.
        image: `auroc`, `aupr`, `f1_max`, and the counts `normal` (good images) and `anomalous`.
        pixel: `auroc`, `aupr`, `f1_max` and `aupro` of all pixels together; `auroc_per_image` and `aupimo`, which are
            means over anomalous images. All are `None` if there are no masks; `aupimo` also if the good images have
            too few pixels to resolve false positive rates of 1e-5 to 1e-4.
        decisions: `threshold`, the `stated_rate`, the realised `false_alarm_rate` and `detection_rate`, and
            `false_alarms_by_chance`, the range of counts that the stated rate gives in 95 % of cases.
        rates: for each of `RATES` that the calibration allows: the `rate`, its `threshold`, and the realised
            `false_alarm_rate` and `detection_rate`.
        boxes: boxes around the parts of maps above `level`, whose stated rate is `box_rate`, compared with boxes
            around the masks' parts: the counts `found` and `true`; `good_with_boxes`, the realised share of good
            images that show a box; and in `overlaps`, for each of `OVERLAPS`, `iou`, `matched`, `precision`, `recall`,
            `f1`, and `false_per_image` (unmatched boxes per image). Empty if there are no masks.
        per_class: for each class of anomaly against all good images `image`, `pixel` and `detection_rate`, and the
            `count` of its images.
        class_means: the means over these classes of `image_auroc`, `pixel_auroc` and `aupro`, all with the same weight;
            `None` if a figure is undefined for one class.
        per_image: the figures of each of `results`.
        seconds_per_image: wall time, with decoding and reading of masks.
        results: samples with their predictions (without maps), in order.
        unreadable: predictions that have an error instead of a score.
        pixels: counts of the maps' values in good and in defective pixels.
        origin: the model, its settings, and the versions of the software.
    """

    dataset: Dataset
    image: dict[str, float | None]
    pixel: dict[str, float | None]
    decisions: dict[str, Any]
    rates: list[dict[str, Any]]
    boxes: dict[str, Any]
    per_class: dict[str, dict[str, Any]]
    class_means: dict[str, float | None]
    per_image: PerImage
    seconds_per_image: float
    results: list[tuple[Sample, Prediction]]
    unreadable: list[Prediction]
    pixels: PixelTally
    origin: Origin

    def __repr__(self) -> str:
        """Returns the main figures, in up to five lines."""

        def told(figures: dict[str, Any], *names: str) -> str:
            found = ((name, figures.get(name)) for name in names)
            return ", ".join(f"{name} {'-' if value is None else f'{value:.3f}'}" for name, value in found)

        unreadable = f", {len(self.unreadable)} without a score" if self.unreadable else ""
        good, anomalous = self.image["normal"], self.image["anomalous"]
        lines = [
            f"Evaluation: {good} good and {anomalous} anomalous images of {self.dataset.root}{unreadable}",
            f"  images: {told(self.image, 'auroc', 'aupr', 'f1_max')}",
            f"  pixels: {told(self.pixel, 'auroc', 'aupro', 'aupimo')}" if self.dataset.has_masks else "",
            f"  at threshold {self.decisions['threshold']:.6g}, stated rate {self.decisions['stated_rate']:.3g}: "
            + told(self.decisions, "false_alarm_rate", "detection_rate"),
            f"  {1000 * self.seconds_per_image:.0f} ms an image",
        ]
        return "\n".join(filter(None, lines))

    def as_dict(self) -> dict[str, Any]:
        """Returns the figures and their origin as JSON values."""
        return {
            **self.origin.as_dict(),
            "data": {
                "source": str(self.dataset.root),
                "layout": self.dataset.layout,
                "images": len(self.dataset.test),
                "has_masks": self.dataset.has_masks,
            },
            "image": self.image,
            "pixel": self.pixel,
            "decisions": self.decisions,
            "rates": self.rates,
            "boxes": self.boxes,
            "per_class": self.per_class,
            "class_means": self.class_means,
            "intervals": {name: found and found.as_dict() for name, found in self.intervals.items()},
            "seconds_per_image": self.seconds_per_image,
            "images": len(self.results),
            "unreadable": len(self.unreadable),
        }

    @cached_property
    def intervals(self) -> dict[str, Interval | None]:
        """The 95 % interval of each defined figure: it holds the true value for 95 of 100 samples of images.

        The figures are `image_auroc`, `pixel_auroc`, `pixel_auroc_per_image`, `aupro` and `aupimo`. An interval is
        `None` if there are too few images, or all values are the same (`metrics.interval`).
        """
        return self.per_image.intervals()

    @property
    def counts(self) -> RankCounts:
        """Counts of the images' scores."""
        return _tally(self.results)


def evaluate(model: Model, source: str | Path | Dataset, progress: Progress | bool | None = None) -> Evaluation:
    """Returns the figures of a model on the test part of a source.

    Pixels are counted at the model's input size, or at a photograph's own size if it is cut into tiles.

    Args:
        model: fitted; its seed decides the split of sources that have no split of their own.
        source: a path, `layout:PATH`, or a data set that was read.
        progress: called with the stage, and how many images of how many are done; `True` prints it.

    Raises:
        SettingError: a path was given as the model.
        SourceError: the source has no test part, or none of its images can be read.
        ImageError: a mask is unreadable or of another size than its image.
    """
    if isinstance(model, (str, Path)):
        raise SettingError(f"{model} is a path, not a model; give blemish.load({str(model)!r})")
    dataset = source if isinstance(source, Dataset) else read_source(source, model.recipe.seed)
    samples = dataset.test
    if not samples:
        is_test = dataset.root.rstrip("/").endswith("/test")
        advice = "give the folder above it" if is_test else "give a tree with test/good and test/<defect> folders"
        raise SourceError(f"{dataset.root}: has no labelled images to evaluate on ({dataset.layout}); {advice}")
    start = time.perf_counter()
    counted = count(model, dataset, reported(progress))
    seconds = (time.perf_counter() - start) / len(samples)
    results = counted.results
    if not results:
        reason = counted.unreadable[0].prediction.error
        raise SourceError(f"{dataset.root}: none of its {number_of(len(samples), 'test image')} can be read; {reason}")
    per_image = counted.per_image(dataset)
    everything = reduce(PixelTally.merge, counted.tallies.values(), PixelTally())
    decisions = _decisions(results, model.threshold)
    per_class = _per_class(results, counted.tallies, per_image, model.threshold)
    return Evaluation(
        dataset=dataset,
        image={**_image_figures(results), "normal": decisions.normal, "anomalous": decisions.anomalous},
        pixel={**everything.figures(), **_image_means(per_image)},
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
        per_class=per_class,
        class_means=_class_means(per_class),
        per_image=per_image,
        seconds_per_image=seconds,
        results=results,
        unreadable=[each.prediction for each in counted.unreadable],
        pixels=everything,
        origin=Origin.of(model),
    )


def compared(first: Evaluation | PerImage, second: Evaluation | PerImage) -> list[Difference]:
    """Returns how two models differ on the same images: the figures of both, and intervals of their differences.

    Both models are evaluated on the same resampled images, so an image that is hard for both makes no interval wider.
    Each 95 % interval holds for one comparison: of twenty comparisons of equals, one differs by chance.

    Args:
        first, second: evaluations on one test part, or their `per_image`.

    Raises:
        SettingError: the images are not the same, by name, or their labels differ.
    """
    return differences(*(each.per_image if isinstance(each, Evaluation) else each for each in (first, second)))


def _image_means(per_image: PerImage, among: NDArray[np.bool_] | None = None) -> dict[str, float | None]:
    return {"auroc_per_image": per_image.mean("pixel_auroc", among), "aupimo": per_image.mean("aupimo", among)}


def _class_means(per_class: dict[str, dict[str, Any]]) -> dict[str, float | None]:
    """Returns means over the classes of anomaly; each class has the same weight."""

    def mean(figures: list[float | None]) -> float | None:
        defined = [figure for figure in figures if figure is not None]
        return sum(defined) / len(defined) if defined and len(defined) == len(figures) else None

    return {
        "image_auroc": mean([figures["image"]["auroc"] for figures in per_class.values()]),
        "pixel_auroc": mean([figures["pixel"]["auroc"] for figures in per_class.values()]),
        "aupro": mean([figures["pixel"]["aupro"] for figures in per_class.values()]),
    }


def _per_class(
    results: list[tuple[Sample, Prediction]], tallies: dict[str, PixelTally], per_image: PerImage, threshold: float
) -> dict[str, dict[str, Any]]:
    """Returns the figures of each class of anomaly, against all good images."""
    good, found = tallies.get(GOOD, PixelTally()), {}
    for kind in sorted({sample.kind for sample, _ in results} - {GOOD}):
        chosen = [result for result in results if result[0].kind in {kind, GOOD}]
        own = np.array([sample.kind == kind for sample, _ in results])
        found[kind] = {
            "count": int(own.sum()),
            "image": _image_figures(chosen),
            "pixel": {
                **good.merge(tallies.get(kind, PixelTally())).figures(),
                **_image_means(per_image, own),
            },
            "detection_rate": _decisions(chosen, threshold).detection_rate,
        }
    return found


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


def _box_figures(calibration: Calibration, counted: Counts) -> dict[str, Any]:
    found, true, images = counted.found, counted.true, len(counted.judged)
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
