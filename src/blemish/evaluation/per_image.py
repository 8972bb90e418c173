"""Figures of single images; from them confidence intervals, and whether one of two detectors is better."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.errors import SettingError
from blemish.metrics import ImageCells, Interval, auroc_interval, interval
from blemish.metrics.intervals import Figure, auroc_of, difference, mean_of, value
from blemish.metrics.ranking import Floats

FIGURES = {
    "image_auroc": "image AUROC",
    "pixel_auroc": "pixel AUROC",
    "pixel_auroc_per_image": "pixel AUROC, mean over images",
    "aupro": "AUPRO",
    "aupimo": "AUPIMO",
}
"""Figures that have intervals, and their names in tables."""

MEANS = {"pixel_auroc_per_image": "pixel_auroc", "aupimo": "aupimo"}
"""Figures that are means over images, and the attributes that they average."""


@dataclass(frozen=True)
class PerImage:
    """Figures of images, in order; all (n,).

    Attributes:
        names: of the images, below the folder that holds the whole test part.
        anomalous: whether each image is anomalous.
        scores: of the model.
        pixel_auroc: of each image's own pixels; NaN if it is undefined.
        aupimo: of each image; NaN if it is undefined.
        cells: counts of pixels, for the intervals of figures of all pixels; `None` if they were not kept.
    """

    names: tuple[str, ...]
    anomalous: NDArray[np.bool_]
    scores: Floats
    pixel_auroc: Floats
    aupimo: Floats
    cells: ImageCells | None = None

    @classmethod
    def from_rows(cls, rows: Iterable[dict[str, Any]]) -> PerImage:
        """Returns figures from the result of `rows`, for example after they were saved as JSON; without `cells`.

        Raises:
            SettingError: a row lacks a value.
        """
        listed = list(rows)
        wanted = ("name", "is_anomalous", "score", "pixel_auroc", "aupimo")
        for number, row in enumerate(listed):
            if absent := [key for key in wanted if key not in row]:
                raise SettingError(f"image {number} has no {absent[0]}; give the rows of an evaluation")
        names, anomalous, *columns = ([row[key] for row in listed] for key in wanted)
        scores, pixel_auroc, aupimo = (np.array(column, np.float64) for column in columns)
        return cls(tuple(names), np.array(anomalous, bool), scores, pixel_auroc, aupimo)

    def rows(self) -> list[dict[str, Any]]:
        """Returns `name, is_anomalous, score, pixel_auroc, aupimo` of each image as JSON values."""
        columns = (self.scores, self.pixel_auroc, self.aupimo)
        values = ([None if np.isnan(number) else float(number) for number in column] for column in columns)
        return [
            {"name": name, "is_anomalous": bool(anomalous), "score": score, "pixel_auroc": own, "aupimo": overlap}
            for name, anomalous, score, own, overlap in zip(self.names, self.anomalous, *values, strict=True)
        ]

    def mean(self, column: str, among: NDArray[np.bool_] | None = None) -> float | None:
        """Returns the mean of `pixel_auroc` or `aupimo` over the images that have it; `None` if none has it.

        Args:
            column: `pixel_auroc` or `aupimo`.
            among: (n,) which images to use; all by default.
        """
        found: Floats = getattr(self, column)
        chosen = found[~np.isnan(found) if among is None else among & ~np.isnan(found)]
        return float(chosen.mean()) if len(chosen) else None

    def intervals(self) -> dict[str, Interval | None]:
        """Returns the 95 % interval of each defined figure of `FIGURES`; `None` if there are too few images."""
        found: dict[str, Interval | None] = {}
        for name, classes, (figure,) in _figures(self):
            exact = name == "image_auroc"
            found[name] = auroc_interval(self.scores, self.anomalous) if exact else interval(figure, classes)
        return found


@dataclass(frozen=True)
class Difference:
    """One figure of two detectors on the same images.

    Attributes:
        figure: one of `FIGURES`.
        first, second: the figure of each detector, over the images for which both have it.
        interval: of `first` minus `second`; `None` if there are too few images, or all values are the same.
    """

    figure: str
    first: float
    second: float
    interval: Interval | None

    @property
    def difference(self) -> float:
        """The first figure minus the second one."""
        return self.first - self.second

    @property
    def differs(self) -> bool | None:
        """Whether the two differ, by the 95 % interval; `None` if there is no interval."""
        return None if self.interval is None else not self.interval.low <= 0 <= self.interval.high

    @property
    def verdict(self) -> str:
        """`differs`, `may be chance`, or `not known`."""
        return {True: "differs", False: "may be chance", None: "not known"}[self.differs]

    def as_dict(self) -> dict[str, Any]:
        """Returns the difference as JSON values."""
        return {
            "figure": self.figure,
            "first": self.first,
            "second": self.second,
            "difference": self.difference,
            "interval": None if self.interval is None else self.interval.as_dict(),
            "differs": self.differs,
        }


def differences(first: PerImage, second: PerImage) -> list[Difference]:
    """Returns the difference of each figure of `FIGURES` that both have, with its 95 % interval from the same draws.

    Raises:
        SettingError: the images are not the same, by name, or their labels differ.
    """
    second = _aligned(first, second)
    return [
        Difference(
            name, value(one, len(classes)), value(other, len(classes)), interval(difference(one, other), classes)
        )
        for name, classes, (one, other) in _figures(first, second)
    ]


def _figures(*detectors: PerImage) -> Iterator[tuple[str, NDArray[Any], list[Figure]]]:
    """Yields each figure that all detectors have: its name, the classes of the images, and one figure for each."""
    anomalous = detectors[0].anomalous
    cells = [each.cells for each in detectors]
    pixels = [each.figures() for each in cells if each is not None]
    pooled = len(pixels) == len(detectors) and all(pixels)
    for name in FIGURES:
        if name in MEANS:
            columns = [getattr(each, MEANS[name]) for each in detectors]
            defined = ~np.isnan(columns).any(axis=0)
            if defined.any():
                yield name, np.zeros(int(defined.sum())), [mean_of(column[defined]) for column in columns]
        elif name == "image_auroc":
            if anomalous.any() and not anomalous.all():
                yield name, anomalous, [auroc_of(each.scores, anomalous) for each in detectors]
        elif pooled and cells[0] is not None:
            key = name.removeprefix("pixel_")
            yield name, cells[0].classes, [each[key] for each in pixels]


def _aligned(first: PerImage, second: PerImage) -> PerImage:
    """Returns the second detector's figures in the first one's order; its cells only if the order is the same."""
    if first.names != second.names:
        alone = set(first.names) ^ set(second.names)
        if alone or len(set(first.names)) < max(len(first.names), len(second.names)):
            example = f"for example {min(alone)}" if alone else "and some names occur more than once"
            raise SettingError(
                f"the {len(first.names)} and the {len(second.names)} images are not the same, {example}; evaluate both "
                "models on one test part in which every image can be read"
            )
        place = {name: index for index, name in enumerate(second.names)}
        order = np.array([place[name] for name in first.names], int)
        columns = (second.anomalous, second.scores, second.pixel_auroc, second.aupimo)
        second = PerImage(first.names, *(column[order] for column in columns))
    if (second.anomalous != first.anomalous).any():
        index = int(np.flatnonzero(second.anomalous != first.anomalous)[0])
        raise SettingError(f"{first.names[index]} is good in one and anomalous in the other; give both the same labels")
    return second
