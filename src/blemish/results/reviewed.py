"""Reads what a person decided on the page of `predict --review`; every field is checked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blemish.datasets.boxed import MAX_BOXES
from blemish.datasets.texts import read_json
from blemish.errors import SourceError
from blemish.images.files import MAX_PIXELS

MAX_BYTES = 64 << 20
FORMAT = 1
LONGEST = 4096
"""Characters of a path, at most."""


@dataclass(frozen=True)
class Reviewed:
    """One image that a person reviewed.

    Attributes:
        path: of the image.
        name: its path below its source.
        size: height and width in pixels.
        is_anomaly: the person's verdict.
        boxes: accepted or drawn boxes, as top, left, bottom and right, the last two not included; none if the image is
            good.
    """

    path: str
    name: str
    size: tuple[int, int]
    is_anomaly: bool
    boxes: tuple[tuple[int, int, int, int], ...]


def read_review(path: Path) -> list[Reviewed]:
    """Returns the images with a decision, in the order of the page.

    Raises:
        SourceError: the file cannot be read, or is not what the page saves; the message names the place.
    """
    content = read_json(path, MAX_BYTES)
    if not isinstance(content, dict) or content.get("blemish_review") != FORMAT:
        raise SourceError(f"{path}: is not what the page of predict --review saves; give that file")
    images = content.get("images")
    if not isinstance(images, list) or not images:
        raise SourceError(f"{path}: no image was reviewed; review some, and save again")
    found = [_reviewed(entry, f"{path}: images[{index}]") for index, entry in enumerate(images)]
    seen: set[str] = set()
    for one in found:
        if one.path in seen:
            raise SourceError(f"{path}: has {one.path} twice; save the page again")
        seen.add(one.path)
    return found


def _reviewed(entry: Any, place: str) -> Reviewed:
    if not isinstance(entry, dict):
        raise _fault(place, "an object")
    path, name = (_text(entry.get(key), f"{place}.{key}") for key in ("path", "name"))
    verdict = entry.get("verdict")
    if verdict not in ("good", "anomalous"):
        raise _fault(f"{place}.verdict", "good or anomalous")
    size = _numbers(entry.get("size"), 2, f"{place}.size")
    height, width = size
    if min(size) < 1 or height * width > MAX_PIXELS:
        raise _fault(f"{place}.size", f"height and width, at most {MAX_PIXELS:,} pixels in all")
    boxes = entry.get("boxes")
    if not isinstance(boxes, list) or len(boxes) > MAX_BOXES:
        raise _fault(f"{place}.boxes", f"a list of at most {MAX_BOXES:,} boxes")
    kept = []
    for number, box in enumerate(boxes):
        where = f"{place}.boxes[{number}]"
        if not isinstance(box, dict) or not isinstance(box.get("accepted"), bool):
            raise _fault(where, "a box that is accepted or not")
        top, left, bottom, right = _numbers([box.get(side) for side in ("top", "left", "bottom", "right")], 4, where)
        if not (0 <= top < bottom <= height and 0 <= left < right <= width):
            raise _fault(where, f"a box within {height}x{width} pixels")
        if box["accepted"] and verdict == "anomalous":
            kept.append((top, left, bottom, right))
    return Reviewed(path, name, (height, width), verdict == "anomalous", tuple(kept))


def _text(value: object, place: str) -> str:
    if not isinstance(value, str) or not value or len(value) > LONGEST or "\0" in value:
        raise _fault(place, f"a text of at most {LONGEST:,} letters")
    return value


def _numbers(values: object, count: int, place: str) -> tuple[int, ...]:
    if not isinstance(values, list) or len(values) != count:
        raise _fault(place, f"{count} numbers")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int) or not math.isfinite(value) or value > MAX_PIXELS:
            raise _fault(place, f"{count} whole numbers")
    return tuple(values)


def _fault(place: str, expected: str) -> SourceError:
    return SourceError(f"{place}: expected {expected}; save the page again, and do not change the file")
