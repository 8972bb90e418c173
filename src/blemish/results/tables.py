"""Predictions as two CSV tables: one line for each image, and one line for each box."""

from __future__ import annotations

import csv
from typing import IO

from blemish.log import guarded
from blemish.results.found import Found, centre

IMAGES = (
    "image", "error", "score", "p_value", "is_anomaly", "threshold", "false_alarm_rate", "is_known", "boxes", "area",
    "map",
)  # fmt: skip
BOXES = (
    "image", "box", "top", "left", "bottom", "right", "centre_row", "centre_column", "area", "peak", "p_value",
    "x", "y", "crs", "ground_area", "ground_unit",
)  # fmt: skip


class Tables:
    """Writes a line for each image to one file, and a line for each box to another.

    Args:
        images: a file opened with `newline=""`.
        boxes: another such file; `None` leaves the boxes out.
    """

    def __init__(self, images: IO[str], boxes: IO[str] | None = None) -> None:
        self._images = csv.writer(images, lineterminator="\n")
        self._boxes = None if boxes is None else csv.writer(boxes, lineterminator="\n")
        self._images.writerow(IMAGES)
        if self._boxes is not None:
            self._boxes.writerow(BOXES)

    def add(self, found: Found) -> None:
        """Writes the lines of an image."""
        name, told = guarded(found.name), found.prediction
        if told.error is not None:
            self._images.writerow((name, guarded(told.error), *[""] * (len(IMAGES) - 2)))
            return
        verdict = (told.score, told.p_value, str(told.is_anomaly).lower(), told.threshold, told.false_alarm_rate)
        area = sum(box.area for box in found.boxes)
        known = str(told.is_known).lower()
        self._images.writerow((name, "", *verdict, known, len(found.boxes), area, guarded(found.picture or "")))
        if self._boxes is None:
            return
        for number, (box, p_value) in enumerate(zip(found.boxes, found.box_p_values, strict=True), 1):
            middle, ground = centre(box), found.ground
            placed: tuple[object, ...] = ("",) * 5
            if ground is not None:
                placed = (*ground.place(*middle), ground.crs, ground.area(box.area, *middle), ground.area_unit)
            sides = (box.top, box.left, box.bottom, box.right)
            self._boxes.writerow((name, number, *sides, *middle, box.area, box.peak, p_value, *placed))

    def close(self) -> None:
        """Does nothing: all lines are written."""
