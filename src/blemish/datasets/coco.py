"""Reads boxes around anomalies from COCO's JSON, such as animals in aerial photographs; images without any are good."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from blemish.datasets.boxed import Boxed, boxed_dataset
from blemish.datasets.listing import matching
from blemish.datasets.marks import Rectangle
from blemish.datasets.sample import Dataset
from blemish.datasets.texts import class_name, path_below, read_json
from blemish.errors import SourceError
from blemish.images.files import MAX_PIXELS

MAX_BYTES = 256 << 20
"""Bytes of a JSON file, at most."""


def read_coco(path: str, seed: int = 0) -> Dataset:
    """Returns images without boxes to fit on, 80 % of them, by seed; the others and all images with boxes test.

    If there are a file with `train` in its name and one with `test` or `val`, they are the split: images without boxes
    of the first are for training, all images of the second for testing. The truth of a pixel is whether it is in a box;
    of polygons and crowds only the boxes are read. A box that leaves its image is cut at the image's border.

    Args:
        path: the JSON file, or a folder with one or two of them, directly or in `annotations`. Images are looked for in
            the file's folder, in its parent, and in `images` of either.
        seed: decides the split where there is none.

    Raises:
        SourceError: there is no such file; it is not COCO's JSON, names something that is not there, or has a box
            without size or outside its image: the file and the place are named.
    """
    train, test = _files(Path(path))
    learned = _read(train)
    return boxed_dataset("boxes in COCO's JSON", path, learned, None if test is None else _read(test), seed)


def _files(path: Path) -> tuple[Path, Path | None]:
    """Returns the file, or the one of the training part and the one of the test part."""
    if not path.exists():
        raise SourceError(f"{path}: no such file or folder; give a JSON file, or a folder with one")
    if not path.is_dir():
        return path, None
    inner = path / "annotations"
    found = matching(path, "*.json") + (matching(inner, "*.json") if inner.is_dir() else [])
    if len(found) == 1:
        return found[0], None
    train = [file for file in found if "train" in file.stem.lower()]
    test = [file for word in ("test", "val") for file in found if word in file.stem.lower()]
    if len(train) == 1 and test and train[0] not in test:
        return train[0], test[0]
    names = ", ".join(file.name for file in found) or "none"
    raise SourceError(f"{path}: has these JSON files: {names}; give the one to read, coco:{path}/FILE.json")


def _read(file: Path) -> list[Boxed]:
    content = read_json(file, MAX_BYTES)
    if not isinstance(content, dict):
        raise SourceError(f"{file}: holds {_kind(content)}; expected COCO's object with images and annotations")
    names: dict[int, str] = {}
    for entry, place in _entries(content, "categories", file):
        number = _whole(entry, "id", place)
        if number in names:
            raise SourceError(f"{place}.id: {number} is also the id of another category; give each its own")
        names[number] = class_name(entry.get("name"), f"{place}.name")
    images: dict[int, tuple[str, tuple[int, int]]] = {}
    files: set[str] = set()
    for entry, place in _entries(content, "images", file):
        number = _whole(entry, "id", place)
        if number in images:
            raise SourceError(f"{place}.id: {number} is also the id of another image; give each its own")
        size = _whole(entry, "height", place), _whole(entry, "width", place)
        if min(size) < 1 or size[0] * size[1] > MAX_PIXELS:
            raise SourceError(f"{place}: is {size[0]}x{size[1]} pixels; expected 1 to {MAX_PIXELS:,} in all")
        name = entry.get("file_name")
        if not isinstance(name, str):
            raise SourceError(f"{place}.file_name: is {_kind(name)}; expected the name of a file")
        if name in files:
            raise SourceError(f"{place}.file_name: {name!r} is also that of another image; list every image once")
        files.add(name)
        images[number] = name, size
    boxes: dict[int, list[tuple[Rectangle, str]]] = {number: [] for number in images}
    for entry, place in _entries(content, "annotations", file):
        number, category = _whole(entry, "image_id", place), _whole(entry, "category_id", place)
        if number not in images:
            raise SourceError(f"{place}.image_id: no image has the id {number}; give that of an image")
        if category not in names:
            raise SourceError(f"{place}.category_id: no category has the id {category}; give that of a category")
        boxes[number].append((_box(entry.get("bbox"), images[number][1], f"{place}.bbox"), names[category]))
    root = _root(file, [name for name, _ in images.values()])
    return [
        Boxed(path_below(root, name, f"{file}, image {number}"), file, boxes[number], size)
        for number, (name, size) in images.items()
    ]


def _entries(content: dict[str, Any], key: str, file: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """Yields the entries of a list, each with its place."""
    entries = content.get(key)
    if not isinstance(entries, list):
        raise SourceError(f"{file}: {key} is {_kind(entries)}; expected a list, as in COCO's JSON")
    for index, entry in enumerate(entries):
        place = f"{file}: {key}[{index}]"
        if not isinstance(entry, dict):
            raise SourceError(f"{place}: is {_kind(entry)}; expected an object")
        yield entry, place


def _whole(entry: dict[str, Any], key: str, place: str) -> int:
    value = entry.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 1 << 63:
        raise SourceError(f"{place}.{key}: is {_kind(value)}; expected a whole number")
    return value


def _box(value: object, size: tuple[int, int], place: str) -> Rectangle:
    """Returns a box `[x, y, width, height]`, cut at the image's border."""
    if not isinstance(value, list) or len(value) != 4:
        raise SourceError(f"{place}: is {_kind(value)}; expected [x, y, width, height]")
    numbers = []
    for number in value:
        if isinstance(number, bool) or not isinstance(number, (int, float)) or abs(number) > MAX_PIXELS:
            raise SourceError(f"{place}: has {_kind(number)}; expected four numbers of pixels")
        numbers.append(float(number))
    left, top, across, down = numbers
    if not all(map(math.isfinite, numbers)) or across <= 0 or down <= 0:
        raise SourceError(f"{place}: is {across:g} wide and {down:g} high; expected more than 0")
    height, width = size
    if left >= width or top >= height or left + across <= 0 or top + down <= 0:
        raise SourceError(f"{place}: lies outside its image of {height}x{width}; correct it, or remove it")
    return max(top, 0.0), max(left, 0.0), min(top + down, height), min(left + across, width)


def _root(file: Path, names: list[str]) -> Path:
    """Returns the folder from which the names lead to images: the first in which the first of them does."""
    bases = [base / inner for base in (file.parent, file.parent.parent) for inner in ("", "images")]
    if not names:
        raise SourceError(f"{file}: has no images; expected COCO's list of them")
    for base in bases:
        if path_below(base, names[0], f"{file}: images[0].file_name").is_file():
            return base
    raise SourceError(f"{file}: its first image, {names[0]}, is neither in {bases[0]} nor in {bases[1]}; put it there")


def _kind(value: object) -> str:
    """Returns what a value is, for messages."""
    if value is None:
        return "absent"
    text = repr(value) if isinstance(value, (str, int, float)) else type(value).__name__
    return text if len(text) <= 40 else f"{text[:37]}..."
