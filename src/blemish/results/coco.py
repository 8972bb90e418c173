"""Predictions in COCO's format for object detection, with a score for each box."""

from __future__ import annotations

import json
from typing import IO

from blemish.results.found import Found

CATEGORY = {"id": 1, "name": "anomaly", "supercategory": "anomaly"}


class Coco:
    """Writes images one by one, and their boxes after the last image, in memory that does not grow.

    An image that could not be read has no size, so only `unreadable` names it. The score of an annotation is the box's
    peak, by which the boxes of one model are ranked; `p_value` is the box's p-value.

    Args:
        file: for the document.
        boxes: an empty file, which holds the boxes until the end.
    """

    def __init__(self, file: IO[str], boxes: IO[str]) -> None:
        self._file, self._boxes = file, boxes
        self._images, self._count = 0, 0
        self._unreadable: list[str] = []
        file.write('{"info": {"description": "predictions by blemish"}, "images": [')

    def add(self, found: Found) -> None:
        """Writes an image, and keeps its boxes for the end."""
        told = found.prediction
        if told.error is not None or found.size is None:
            self._unreadable.append(found.name)
            return
        self._images += 1
        height, width = found.size
        image = {
            "id": self._images,
            "file_name": found.name,
            "height": height,
            "width": width,
            "score": told.score,
            "p_value": told.p_value,
            "is_anomaly": told.is_anomaly,
            "boxes": len(found.boxes),
        }
        self._file.write(",\n" * (self._images > 1) + json.dumps(image, allow_nan=False))
        for box, p_value in zip(found.boxes, found.box_p_values, strict=True):
            self._count += 1
            annotation = {
                "id": self._count,
                "image_id": self._images,
                "category_id": CATEGORY["id"],
                "bbox": [box.left, box.top, box.right - box.left, box.bottom - box.top],
                "area": box.area,
                "iscrowd": 0,
                "score": box.peak,
                "p_value": p_value,
            }
            self._boxes.write(",\n" * (self._count > 1) + json.dumps(annotation, allow_nan=False))

    def close(self) -> None:
        """Writes the boxes and the end."""
        self._file.write('],\n"categories": ' + json.dumps([CATEGORY]) + ',\n"annotations": [')
        self._boxes.seek(0)
        while block := self._boxes.read(1 << 16):
            self._file.write(block)
        self._file.write('],\n"unreadable": ' + json.dumps(self._unreadable) + "}\n")
