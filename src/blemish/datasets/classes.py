"""Reads a data set for classification, in which one class is good and all others are anomalous."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blemish.datasets.listing import images_in, matching
from blemish.datasets.sample import GOOD, Dataset, Sample
from blemish.errors import SourceError, number_of
from blemish.images.array_files import read_images, read_labels
from blemish.images.files import SUFFIXES

Part = list[tuple[Path, str]]
"""Images and their classes."""


def read_one_class(path: str, seed: int = 0) -> Dataset:
    """Returns the class's training images to fit on and all test images of all classes. The seed changes nothing.

    Args:
        path: `PATH:CLASS`. PATH is an npz file with `x_train`, `y_train`, `x_test` and `y_test`; or a folder: with the
            idx files of MNIST or Fashion-MNIST (`.gz` or not), with CIFAR-10's batches for Python, or with images in
            `train/<class>` and `test/<class>`.

    Raises:
        SourceError: it is none of these, damaged, or has no such class or too few images of it.
    """
    where, colon, chosen = path.rpartition(":")
    if not colon or not where or not chosen:
        raise SourceError(f"one_class:{path}: names no class; give one_class:PATH:CLASS, such as one_class:mnist.npz:3")
    root = Path(where)
    if not root.exists():
        raise SourceError(f"{where}: no such file or folder; check the path")
    train, test = _parts(root)
    normal = [Sample(image) for image, kind in train if kind == chosen]
    if len(normal) < 2:
        kinds = ", ".join(sorted({kind for _, kind in train})) or "none"
        count = number_of(len(normal), "training image")
        raise SourceError(f"{where}: has {count} of class {chosen!r}, and 2 are needed; its classes are {kinds}")
    judged = [Sample(image, GOOD if kind == chosen else kind) for image, kind in test]
    return Dataset(f"one class, {chosen}", path, normal, judged)


def classes(path: str) -> list[str]:
    """Returns the classes of such a data set, in order. Raises `SourceError` as `read_one_class` does."""
    return sorted({kind for _, kind in _parts(Path(path))[0]})


def _parts(root: Path) -> tuple[Part, Part]:
    if root.is_file():
        if root.suffix != ".npz":
            raise SourceError(f"{root}: is not an npz file; give one, or a folder of idx files, batches or images")
        train, test = (
            _numbered([(root / f"x_{part}", read_images(root, f"x_{part}"), read_labels(root, f"y_{part}"))])
            for part in ("train", "test")
        )
        return train, test
    if (root / "train").is_dir() and (root / "test").is_dir():
        return _by_folder(root / "train"), _by_folder(root / "test")
    batches = matching(root, "data_batch_[0-9]")
    if batches:
        train, test = (
            _numbered([(file, read_images(file), read_labels(file)) for file in files])
            for files in (batches, [_only(root, "test_batch")])
        )
        return train, test
    train, test = (
        _numbered([(images, read_images(images), read_labels(_only(root, f"{part}-labels-idx1-ubyte*")))])
        for part, images in ((part, _only(root, f"{part}-images-idx3-ubyte*")) for part in ("train", "t10k"))
    )
    return train, test


def _by_folder(part: Path) -> Part:
    """Returns images with the names of their folders as classes."""
    found: Part = []
    for image in images_in(part, recursive=True):
        if (
            image.suffix.lower() not in SUFFIXES or image.is_dir()
        ):  # a folder that cannot be read, whose images have no class
            raise SourceError(f"{image}: may not be read; check its permissions, or where its link leads")
        found.append((image, image.parent.name))
    return found


def _only(root: Path, pattern: str) -> Path:
    found = matching(root, pattern)
    if not found:
        raise SourceError(
            f"{root}: has no {pattern.rstrip('*')}; give an npz file, or a folder of idx files, of CIFAR-10's batches, "
            "or of images in train/<class> and test/<class>"
        )
    return found[0]


def _numbered(files: list[tuple[Path, NDArray[np.uint8], NDArray[np.int64]]]) -> Part:
    found: Part = []
    for file, images, labels in files:
        if len(images) != len(labels):
            raise SourceError(f"{file}: has {len(images)} images and {len(labels)} labels; fetch the files again")
        found += [(file / str(number), str(label)) for number, label in enumerate(labels.tolist())]
    return found
