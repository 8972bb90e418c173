"""Judges the test part once, and counts everything that the figures of an evaluation need."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blemish.datasets import Dataset, Sample, read_truth, true_boxes
from blemish.errors import ImageError
from blemish.evaluation.per_image import PerImage
from blemish.images import Geometry, decode_ahead, waiting
from blemish.images.files import MAX_PIXELS
from blemish.maps import Box, matched
from blemish.metrics import ImageCells, MapCounts, NormalPixels, PixelTally, Worths, auroc
from blemish.model import Model, Prediction
from blemish.progress import Progress

OVERLAPS = (0.3, 0.5)
"""Smallest overlaps (IoU) at which a box matches a true one."""


@dataclass(frozen=True)
class Judged:
    """One image: its place in the test part, its prediction without a map, and the figures of its own pixels."""

    place: int
    sample: Sample
    prediction: Prediction
    pixel_auroc: float | None = None
    aupimo: float | None = None


@dataclass
class Counts:
    """Images that were judged, pixels by class, and counts of boxes.

    Attributes:
        normal: pixels of good images, for AUPIMO.
        cells: pixels of each image, for intervals.
        found, true: boxes in all images.
        matched: boxes that match a true one, at each of `OVERLAPS`.
        good_with_boxes: good images in which any box was found.
    """

    judged: list[Judged] = field(default_factory=list)
    unreadable: list[Judged] = field(default_factory=list)
    tallies: dict[str, PixelTally] = field(default_factory=dict)
    normal: NormalPixels = field(default_factory=NormalPixels)
    cells: ImageCells = field(default_factory=ImageCells)
    found: int = 0
    true: int = 0
    matched: list[int] = field(default_factory=lambda: [0] * len(OVERLAPS))
    good_with_boxes: int = 0

    @cached_property
    def worths(self) -> Worths | None:
        """What AUPIMO needs from the good images; used only after all of them were counted."""
        return self.normal.worths()

    @property
    def results(self) -> list[tuple[Sample, Prediction]]:
        return [(each.sample, each.prediction) for each in self.judged]

    def per_image(self, dataset: Dataset) -> PerImage:
        """Returns the figures of each judged image; names begin below the folder that holds the whole test part."""
        names = [_posix(sample) for sample in dataset.test]
        root = _shared(min(names), max(names))
        return PerImage(
            tuple(names[each.place][root:] for each in self.judged),
            np.array([each.sample.is_anomalous for each in self.judged], bool),
            np.array([each.prediction.score for each in self.judged]),
            np.array([each.pixel_auroc for each in self.judged], np.float64),  # None becomes not a number
            np.array([each.aupimo for each in self.judged], np.float64),
            self.cells,
        )

    def update_pixels(self, counts: MapCounts, sample: Sample) -> tuple[float | None, float | None]:
        """Adds one image's pixels; returns their AUROC and AUPIMO."""
        self.tallies.setdefault(sample.kind, PixelTally()).add(counts)
        self.cells.add(counts, sample.is_anomalous)
        if not sample.is_anomalous:
            self.normal.add(counts)
            return None, None
        return auroc(counts.pixels()), self.worths.aupimo(counts) if self.worths is not None else None

    def update_boxes(self, found: list[Box], true: list[Box], sample: Sample) -> None:
        self.found += len(found)
        self.true += len(true)
        self.matched = [count + matched(found, true, iou) for count, iou in zip(self.matched, OVERLAPS, strict=True)]
        self.good_with_boxes += bool(found) and not sample.is_anomalous


def count(model: Model, dataset: Dataset, progress: Progress | None) -> Counts:
    """Returns the counts over the test part of a data set, in its order.

    Good images are judged first: they set the thresholds of AUPIMO, so that no anomalous map must be kept.

    Raises:
        ImageError: a mask is unreadable or of another size than its image.
    """
    counted = Counts()
    order = sorted(range(len(dataset.test)), key=lambda place: dataset.test[place].is_anomalous)
    samples = [dataset.test[place] for place in order]
    predictions = model.judge([sample.path for sample in samples], progress)
    masks = _masks(samples, model.recipe.geometry) if dataset.has_masks else iter([None] * len(samples))
    for place, sample, prediction, mask in zip(order, samples, predictions, masks, strict=True):
        if prediction.error is not None or prediction.map is None:
            counted.unreadable.append(Judged(place, sample, prediction))
            continue
        if isinstance(mask, ImageError):
            raise mask
        own: tuple[float | None, float | None] = (None, None)
        if mask is not None:
            own = counted.update_pixels(MapCounts.count(prediction.map, mask), sample)
            true = true_boxes(sample, mask, model.recipe.geometry)
            counted.update_boxes(model.boxes(prediction.map), true, sample)
        counted.judged.append(Judged(place, sample, replace(prediction, map=None, boxes=()), *own))
    for images in (counted.judged, counted.unreadable):
        images.sort(key=lambda each: each.place)
    return counted


def _posix(sample: Sample) -> str:
    return sample.path.as_posix() if isinstance(sample.path, Path) else str(sample.path)


def _shared(first: str, last: str) -> int:
    """Returns the length of the folders that two paths have in common, in characters."""
    same = next((place for place, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), len(first))
    return first.rfind("/", 0, same) + 1


def _masks(samples: list[Sample], geometry: Geometry) -> Iterator[NDArray[np.bool_] | ImageError]:
    """Yields the ground truth of each image at the size of the maps, or its error; without a mask, it has no defect."""
    size = geometry.shape[0] * geometry.shape[1] if geometry.tile is None else MAX_PIXELS
    return decode_ahead(partial(read_truth, geometry=geometry), samples, ahead=waiting(size, 32))
