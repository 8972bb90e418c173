"""Boxes around what is unusual in YOLO's texts: a line `class x y width height` for each, as shares of the image."""

from __future__ import annotations

import math
import os
from pathlib import Path

from blemish.datasets.boxed import Boxed, boxed_dataset
from blemish.datasets.listing import folders_in, images_in, matching
from blemish.datasets.marks import Rectangle
from blemish.datasets.sample import Dataset, existing_folder
from blemish.datasets.texts import class_name, read_text
from blemish.errors import SourceError
from blemish.images.files import SUFFIXES

MAX_BYTES = 4 << 20
"""Of the labels of one image."""

NAMES = ("classes.txt", "obj.names")
"""Files with the names of classes, a line each."""

LAYOUT = "boxes in YOLO's texts"

SLACK = 0.01
"""A border of a box may lie so far outside its image, as a share; it is cut there. Programs round."""


def read_yolo(path: str, seed: int = 0) -> Dataset:
    """Returns images with boxes to test on; of those without, 80 % train and the rest test, by seed.

    Images are below `images`, and the labels of `images/a/b.jpg` are in `labels/a/b.txt`. If there are `images/train`
    and `images/test` or `images/val`, they are the split: images without boxes of the one train, all of the other
    test. An image without a text, or with an empty one, has no boxes and is good. Names of classes are read from
    `classes.txt` or `obj.names`, in the folder or in `labels`; without them they are `class 0`, `class 1`, ….

    Raises:
        SourceError: there are no images or no labels, a text has no image, or a line is not five numbers in range:
            the file and the line are named.
    """
    root = existing_folder(path)
    images, labels = root / "images", root / "labels"
    for folder, what in ((images, "images"), (labels, "labels")):
        if not os.path.lexists(folder):
            raise SourceError(f"{path}: no {what}; expected {folder}")
    names = _names([folder / name for folder in (root, labels) for name in NAMES])
    texts = _labels(images, labels)
    parts = [part for part in ("test", "val") if (images / part).is_dir()]
    if (images / "train").is_dir() and parts:
        learned, tested = (_read(root, part, texts, names) for part in ("train", parts[0]))
        return boxed_dataset(LAYOUT, path, learned, tested, seed)
    return boxed_dataset(LAYOUT, path, _read(root, "", texts, names), None, seed)


def _names(files: list[Path]) -> list[str] | None:
    for file in files:
        if os.path.lexists(file):
            lines = [line.strip() for line in read_text(file, MAX_BYTES).splitlines() if line.strip()]
            return [class_name(line, f"{file}, line {number}") for number, line in enumerate(lines, 1)]
    return None


def _labels(images: Path, labels: Path) -> dict[Path, Path]:
    """Returns the texts by the path of their image below `images`, without its suffix.

    Raises:
        SourceError: there is none, one has no image, or a folder may not be read.
    """
    texts = {text.relative_to(labels).with_suffix(""): text for text in _texts(labels, set())}
    if not texts:
        raise SourceError(f"{labels}: no labels; expected <name>.txt for images with boxes")
    known = {image.relative_to(images).with_suffix("") for image in images_in(images, recursive=True)}
    for name, text in texts.items():
        if name not in known:
            raise SourceError(f"{text}: has no image; expected {images / name.with_suffix('.jpg')}")
    return texts


def _texts(folder: Path, seen: set[str]) -> list[Path]:
    """Returns the texts in a folder and below it, each real folder once."""
    if os.path.realpath(folder) in seen:
        return []
    seen.add(os.path.realpath(folder))
    found = [text for text in matching(folder, "*.txt") if text.name not in NAMES]
    return found + [text for inner in folders_in(folder) for text in _texts(inner, seen)]


def _read(root: Path, part: str, texts: dict[Path, Path], names: list[str] | None) -> list[Boxed]:
    """Returns the images of a part, or all, with their boxes."""
    images, found = root / "images", []
    for image in images_in(images / part, recursive=True):
        text = texts.get(image.relative_to(images).with_suffix(""))
        found.append(Boxed(image, text or image, [] if text is None else _boxes(text, names)))
    if not found:
        raise SourceError(f"{images / part}: no images in this folder; expected {', '.join(sorted(SUFFIXES))} files")
    return found


def _boxes(file: Path, names: list[str] | None) -> list[tuple[Rectangle, str]]:
    """Returns the boxes of one image with their classes."""
    found = []
    for number, line in enumerate(read_text(file, MAX_BYTES).splitlines(), 1):
        words = line.split()
        if not words:
            continue
        place = f"{file}, line {number}"
        if len(words) != 5:
            raise SourceError(f"{place}: has {len(words)} numbers; expected five: class, x, y, width, height")
        found.append((_box(words[1:], place), _class(words[0], names, place)))
    return found


def _class(word: str, names: list[str] | None, place: str) -> str:
    if not (word.isascii() and word.isdecimal() and len(word) < 10):
        raise SourceError(f"{place}: the class is {word[:40]!r}; expected a whole number from 0")
    if names is None:
        return f"class {int(word)}"
    if int(word) >= len(names):
        raise SourceError(f"{place}: the class is {word}, and there are names of {len(names)}, from 0; add its name")
    return names[int(word)]


def _box(words: list[str], place: str) -> Rectangle:
    """Returns a box given by its centre and its sides, cut at the image's border."""
    try:
        x, y, across, down = (float(word) for word in words)
    except ValueError:
        raise SourceError(
            f"{place}: {' '.join(words)[:60]!r} are not four numbers; expected x, y, width, height"
        ) from None
    sides = top, left, bottom, right = y - down / 2, x - across / 2, y + down / 2, x + across / 2
    if not all(map(math.isfinite, sides)) or across <= 0 or down <= 0:
        raise SourceError(f"{place}: is {across:g} wide and {down:g} high; expected shares of the image above 0")
    if min(sides) < -SLACK or max(sides) > 1 + SLACK:
        raise SourceError(f"{place}: leaves its image; expected shares of the image from 0 to 1, not pixels")
    return max(top, 0.0), max(left, 0.0), min(bottom, 1.0), min(right, 1.0)
