"""Divides the training images into those to learn from and those to calibrate on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from blemish.calibration import held_out_count, promised_rate
from blemish.datasets import Dataset, Sample
from blemish.errors import SourceError
from blemish.images.array_files import file_of


@dataclass(frozen=True)
class Division:
    """What to learn from, what to calibrate on, the share held out, and the rate asked for."""

    dataset: Dataset
    to_fit: list[Sample]
    to_calibrate: list[Sample]
    share: float
    rate: float | None

    @property
    def all(self) -> list[Sample]:
        """The images to fit, then those to calibrate."""
        return [*self.to_fit, *self.to_calibrate]


def divide(dataset: Dataset, seed: int, share: float, rate: float | None) -> Division:
    """Returns the training part, divided at random by the seed.

    Raises:
        SourceError: there are fewer than two images.
        SettingError: the share or the rate is out of range, or so few images cannot promise the rate.
    """
    samples = dataset.train
    if len(samples) < 2:
        raise SourceError(f"{dataset.root}: has {len(samples)} image to fit; give at least 2 good images")
    order = np.random.default_rng(seed).permutation(len(samples))
    held_out = held_out_count(len(samples), share)
    promised_rate(held_out, rate)  # raises before the work starts
    chosen = [samples[index] for index in order]
    return Division(dataset, chosen[held_out:], chosen[:held_out], share, rate)


def images_digest(paths: Sequence[Path]) -> str:
    """Returns the SHA-256 of the images' paths below the folder that they have in common, and of the files' sizes.

    Their order changes nothing, and neither does moving them all. For an image in a file that holds many, the size of
    that file counts. The content is not read.
    """
    whole = [path.absolute() for path in paths]
    above = len(os.path.commonprefix([path.parent.parts for path in whole]))  # noqa: RUF071 (of names, not of letters)
    files = set(map(file_of, whole))
    sizes = {file: os.path.getsize(file) if os.path.isfile(file) else None for file in files}  # a bad one has no size
    told = sorted(("/".join(path.parts[above:]), sizes[file_of(path)]) for path in whole)
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()
