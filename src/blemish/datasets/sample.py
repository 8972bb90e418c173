"""What every layout gives: samples, and the two parts that they form."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from blemish.datasets.marks import MaskFrame, Masks, TrueBoxes
from blemish.errors import SourceError, number_of
from blemish.images import Location, Remote

GOOD = "good"

Truth = Location | Masks | MaskFrame | TrueBoxes
"""Where a sample's ground truth is."""


@dataclass(frozen=True)
class Sample:
    """One image, the class that its layout gives it (`good`, or the name of a defect), and its truth if it has one."""

    path: Location
    kind: str = GOOD
    mask: Truth | None = None

    @property
    def is_anomalous(self) -> bool:
        return self.kind != GOOD


@dataclass(frozen=True)
class Dataset:
    """The samples of a source: `train` are good images, `test` are labelled ones.

    `has_masks`: whether there is ground truth for pixels; all pixels of an image without a mask then count as good.
    """

    layout: str
    root: str
    train: list[Sample]
    test: list[Sample] = field(default_factory=list)
    has_masks: bool = False

    def __str__(self) -> str:
        if not self.test:
            return f"{self.root}: {self.layout}, {number_of(len(self.train), 'image')}"
        kinds = Counter(sample.kind for sample in self.test)
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        return f"{self.root}: {self.layout}, {len(self.train)} to train, {len(self.test)} to test ({counts})"


def evenly_spaced(total: int, count: int) -> list[int]:
    """Returns at most `count` different numbers from 0 to `total` - 1, the first and the last among them."""
    return sorted(set(np.linspace(0, total - 1, min(count, total)).round().astype(int).tolist()))


def picked(dataset: Dataset, numbers: Sequence[int]) -> list[Sample]:
    """Returns test images by their numbers, from 0. Raises `SourceError` if there is no image of a number."""
    for number in numbers:
        if not 0 <= number < len(dataset.test):
            raise SourceError(f"{dataset.root}: has no test image {number}; give 0 to {len(dataset.test) - 1}")
    return [dataset.test[number] for number in numbers]


def existing_folder(path: str) -> Path:
    """Returns `path`. Raises `SourceError` if it is not a folder."""
    folder = Path(path)
    if not folder.is_dir():
        raise SourceError(
            f"{path}: {'is not a folder' if os.path.lexists(folder) else 'no such folder'}; check the path"
        )
    return folder


def split_good(good: list[Path], seed: int, share: float = 0.8) -> tuple[list[Path], list[Path]]:
    """Returns a training and a test part of good images, each in the order given; the seed decides them."""
    order = np.random.default_rng(seed).permutation(len(good))
    train = sorted(order[: int(share * len(good))])
    test = sorted(order[int(share * len(good)) :])
    return [good[index] for index in train], [good[index] for index in test]


def name_below(root: str, path: Location) -> str:
    """Returns the path of an image below a folder, its name if it is the root itself, or else the whole path."""
    if isinstance(path, Remote):
        return path.name if path.url == root else path.url.removeprefix(root.rstrip("/") + "/")
    if path == Path(root):
        return path.name
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
