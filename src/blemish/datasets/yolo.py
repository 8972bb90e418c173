"""Reads boxes around anomalies from YOLO's texts: a line `class x y width height` for each, as shares of the image.

A sixth number, the confidence of a box that a program found, is not read.
"""

from __future__ import annotations

import math
import os
from fnmatch import fnmatch
from pathlib import Path

from blemish.datasets.boxed import Boxed, boxed_dataset
from blemish.datasets.listing import folders_in, images_in, matching
from blemish.datasets.marks import Rectangle
from blemish.datasets.sample import Dataset, existing_folder
from blemish.datasets.texts import class_name, read_text
from blemish.errors import SourceError
from blemish.images.files import SUFFIXES

MAX_BYTES = 4 << 20
"""Bytes of the labels of one image, at most."""

NAMES = ("classes.txt", "obj.names")
"""Files with the names of classes, a line each."""

OTHERS = ("classes.txt", "train.txt", "test.txt", "val.txt", "readme*.txt", "*_with_name_label.txt")
"""Texts in the folders of labels that are not labels: names, lists of images, and Semmacape's labels with names."""

PARTS = ("train", "test", "val", "valid")
"""Folders of a split; the first of the others that has images tests."""

LAYOUT = "boxes in YOLO's texts"

SLACK = 0.01
"""A box may reach this far out of its image, as a share of a side, since programs round; it is cut at the border."""


def read_yolo(path: str, seed: int = 0) -> Dataset:
    """Returns images without boxes to fit on, 80 % of them, by seed; the others and all images with boxes test.

    The text of `a/images/b/c.jpg` is `a/labels/b/c.txt`; if an image is in no folder `images`, its text is beside it.
    If there are images below folders `train` and `test` (or `val`, or `valid`), these are the split: images without
    boxes of the first are for training, all images of the second for testing. An image without a text, or with an empty
    one, has no boxes and is good. Names of classes are read from `classes.txt` or `obj.names`, in the folder or in
    `labels`; without these files they are `class 0`, `class 1`, ….

    Raises:
        SourceError: there are no images or no texts, a text has no image, or a line is not five numbers in range: the
            file and the line are named.
    """
    root = existing_folder(path)
    images = images_in(root, recursive=True)
    if not images:
        raise SourceError(f"{path}: no images in this folder; expected {', '.join(sorted(SUFFIXES))} files")
    names = _names([folder / name for folder in (root, root / "labels") for name in NAMES])
    texts = set(_texts(root, set()))
    if not texts:
        raise SourceError(f"{path}: no labels; expected {_text_of(images[0], root)}, or that of another image")
    texts_of = {image: _text_of(image, root) for image in images}
    lost = sorted(texts - set(texts_of.values()))
    if lost:
        raise SourceError(f"{lost[0]}: has no image of its name; put the image there, or remove the labels")
    boxed = [Boxed(image, text, _boxes(text, names) if text in texts else []) for image, text in texts_of.items()]
    parts = {part: [one for one in boxed if part in one.image.relative_to(root).parts[:-1]] for part in PARTS}
    tested = next((parts[part] for part in PARTS[1:] if parts[part]), None)
    if parts["train"] and tested:
        return boxed_dataset(LAYOUT, path, parts["train"], tested, seed)
    return boxed_dataset(LAYOUT, path, boxed, None, seed)


def _text_of(image: Path, root: Path) -> Path:
    """Returns where an image's text is: its last folder `images` becomes `labels`."""
    parts = list(image.relative_to(root).with_suffix(".txt").parts)
    if "images" in parts[:-1]:
        parts[len(parts) - 2 - parts[-2::-1].index("images")] = "labels"
    return root.joinpath(*parts)


def _names(files: list[Path]) -> list[str] | None:
    for file in files:
        if os.path.lexists(file):
            lines = [line.strip() for line in read_text(file, MAX_BYTES).splitlines() if line.strip()]
            return [class_name(line, f"{file}, line {number}") for number, line in enumerate(lines, 1)]
    return None


def _texts(folder: Path, seen: set[str]) -> list[Path]:
    """Returns the texts with labels in a folder and below it, each real folder once.

    Raises:
        SourceError: a folder may not be read, whose labels would be missed.
    """
    if os.path.realpath(folder) in seen:
        return []
    seen.add(os.path.realpath(folder))
    found = [
        text for text in matching(folder, "*.txt") if not any(fnmatch(text.name.lower(), other) for other in OTHERS)
    ]
    return found + [text for inner in folders_in(folder) for text in _texts(inner, seen)]


def _boxes(file: Path, names: list[str] | None) -> list[tuple[Rectangle, str]]:
    """Returns the boxes of one image with their classes."""
    found = []
    for number, line in enumerate(read_text(file, MAX_BYTES).splitlines(), 1):
        words = line.split()
        if not words:
            continue
        place = f"{file}, line {number}"
        if len(words) not in (5, 6):
            raise SourceError(
                f"{place}: has {len(words)} numbers; expected five: class, x, y, width, height; or six, "
                "with a confidence"
            )
        found.append((_box(words[1:5], place), _class(words[0], names, place)))
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
