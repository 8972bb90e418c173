"""Divides the training images into those to learn from and those to calibrate on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from blemish.calibration import check_rate, held_out_count, promised_rate
from blemish.calibration.cross_fit import LIMIT, fold_count
from blemish.datasets import Dataset, Sample
from blemish.datasets.sample import name_below
from blemish.errors import ImageError, SettingError, SourceError, as_count, as_number, number_of
from blemish.images import Geometry, Location, Remote, count_tiles, decode_ahead
from blemish.images.array_files import file_of

if TYPE_CHECKING:
    from blemish.detectors import Detector


@dataclass(frozen=True)
class Division:
    """What to learn from, what to hold out to calibrate, and how that was chosen.

    Attributes:
        to_fit: the images to learn from; all of them if they are cross-fitted.
        to_calibrate: those held out.
        share: to hold out, as it was asked for.
        folds: of a cross-fit, as they were asked for.
        rate: of false alarms, as it was asked for.
        box_rate: as it was asked for.
    """

    dataset: Dataset
    to_fit: list[Sample]
    to_calibrate: list[Sample]
    share: float | None
    folds: int | None
    rate: float | None
    box_rate: float | None

    @property
    def all(self) -> list[Sample]:
        """The images to fit, then those to calibrate."""
        return [*self.to_fit, *self.to_calibrate]

    @property
    def crosses(self) -> bool:
        """Whether all images are cross-fitted, so that none is held out."""
        return not self.to_calibrate

    def name_of(self, path: Location) -> str:
        """Returns the path of an image below the data set's folder."""
        return name_below(self.dataset.root, path)

    def check_rates(self, count: int) -> None:
        """Raises `SettingError` if `count` images, those that can calibrate, are too few for the rates."""
        left_out = len(self.all) - count
        found = f" ({left_out} left out)" if left_out else ""
        _check_rates(count, self.rate, self.box_rate, found=found)


@dataclass
class Calibrating:
    """How a model is to be calibrated; `None` leaves a choice to the fit.

    Attributes:
        method: `cross` or `hold-out`.
        folds: of the cross-fit.
        share: of the images, to hold out.
        rate: of false alarms, that the threshold promises.
        box_rate: the share of good images that may show a box.

    Raises:
        SettingError: the method is not known, two of them contradict each other, or one is no number, or out of range.
    """

    method: str | None = None
    folds: int | None = None
    share: float | None = None
    rate: float | None = None
    box_rate: float | None = None

    def __post_init__(self) -> None:
        if self.method not in {None, "cross", "hold-out"}:
            raise SettingError(f"calibration {self.method!r} is not known; give cross or hold-out")
        if self.share is not None and (self.method == "cross" or self.folds is not None):
            raise SettingError("a cross-fit holds out no images; leave out --calibration-share, or the cross-fit")
        if self.method == "hold-out" and self.folds is not None:
            raise SettingError("only a cross-fit has folds; leave out --folds, or give --calibration cross")
        self.rate = None if self.rate is None else as_number("false-alarm rate", self.rate)
        self.box_rate = None if self.box_rate is None else as_number("box rate", self.box_rate)
        self.share = None if self.share is None else as_number("calibration share", self.share)
        held_out_count(2, self.share)  # refuses what is out of range
        if self.folds is not None:
            self.folds = as_count("folds", self.folds)
            fold_count(2, self.folds)  # refuses what is out of range

    def check(self, count: int, more: str = "") -> None:
        """Raises `SettingError` if a rate is out of range, or lower than `count` images can promise.

        Args:
            count: of the images.
            more: for the error, another way to calibrate on more of them.
        """
        _check_rates(count, self.rate, self.box_rate, more=more)

    def crosses(self, detector: Detector, grids: list[tuple[int, int, int]], rows: int) -> bool:
        """Returns whether to cross-fit: as was asked, or else for up to `LIMIT` rows and a detector that can.

        Args:
            detector: empty.
            grids: of the layers.
            rows: images, or tiles, that it will learn from, with their shifted copies.

        Raises:
            SettingError: a cross-fit was asked for, and the detector cannot leave out any of so many.
        """
        from blemish.detectors import Trained

        if self.method == "hold-out" or self.share is not None:
            return False
        asked = self.method == "cross" or self.folds is not None
        if isinstance(detector, Trained):
            if asked and self.folds is None:
                raise SettingError(
                    f"{detector.name} is trained, and a cross-fit trains it again for each fold; say how often, such "
                    "as --folds 5, or leave --calibration out"
                )
            return asked
        most = detector.leaves_out(grids)
        if asked and rows > most:
            told = f"at most {most:,} images or tiles" if most else "none"
            raise SettingError(
                f"{detector.name} can be cross-fitted on {told} here, and there are {rows}; give --calibration hold-out"
            )
        return asked or rows <= min(most, LIMIT)


def divide(
    dataset: Dataset,
    seed: int,
    calibrating: Calibrating,
    *,
    crosses: bool,
    trained: bool = False,
    learned_from: frozenset[Location] = frozenset(),
) -> Division:
    """Returns the training part in an order drawn by the seed, whole or divided.

    Args:
        dataset: whose training part is divided.
        seed: of the order.
        calibrating: the share and the rate.
        crosses: whether all images are to be cross-fitted, so that none is held out.
        trained: whether the detector is a trained one.
        learned_from: images that its weights have learned from before; none of these is held out.

    Raises:
        SourceError: there are fewer than two images.
        SettingError: the share or the rate is out of range, or so few images cannot promise the rate, or the box rate;
            or all of them were learned from.
    """
    samples = dataset.train
    if len(samples) < 2:
        raise SourceError(f"{dataset.root}: has {number_of(len(samples), 'image')} to fit; give at least 2 good images")
    held_out = 0 if crosses else held_out_count(len(samples), calibrating.share, trained=trained)
    free = [sample.path not in learned_from for sample in samples]
    if held_out and not any(free):
        raise SettingError(
            f"{dataset.root}: the checkpoint learned from all these images, so none of them can calibrate; add new ones"
        )
    held_out = min(held_out, sum(free))
    ways = [] if trained or not held_out else ["--calibration cross"]
    if 0 < held_out < len(samples) // 2:
        ways.append("a larger --calibration-share")
    # Before the work starts.
    more = f", or calibrate on more of them ({' or '.join(ways)})" if ways else ""
    calibrating.check(held_out or len(samples), more)
    order = np.random.default_rng(seed).permutation(len(samples)).tolist()
    first = [index for index in order if free[index]][:held_out]
    held = set(first)
    parts = ([samples[index] for index in order if index not in held], [samples[index] for index in first])
    told = calibrating
    return Division(dataset, *parts, told.share, told.folds, told.rate, told.box_rate)


def _check_rates(count: int, rate: float | None, box_rate: float | None, *, found: str = "", more: str = "") -> None:
    check_rate("false-alarm rate", promised_rate(count, rate, found, more), count)
    if box_rate is not None:
        check_rate("box rate", box_rate, count)


def count_rows(dataset: Dataset, geometry: Geometry) -> int:
    """Returns how many images, or tiles of photographs, the training part has; unreadable photographs count as one."""
    paths = [sample.path for sample in dataset.train]
    if geometry.tile is None:
        return len(paths)
    counts = decode_ahead(partial(count_tiles, geometry=geometry), paths)
    return sum(1 if isinstance(count, ImageError) else count for count in counts)


def images_digest(paths: Sequence[Location]) -> str:
    """Returns the SHA-256 of the images' paths below the folder that they have in common, and of the files' sizes.

    It does not change if the images come in another order, or if all are moved. For an image in a file that holds many,
    the size of that file counts. The content is not read.
    """
    whole = [path.absolute() for path in paths]
    above = len(os.path.commonprefix([path.parts[:-1] for path in whole]))  # noqa: RUF071 (of names, not of letters)
    files = set(map(file_of, whole))
    sizes = {file: _size(file) for file in files}
    told = sorted(("/".join(path.parts[above:]), sizes[file_of(path)]) for path in whole)
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def _size(file: Location) -> int | None:
    """Returns the bytes of a file; a bad one has no size."""
    if isinstance(file, Remote):
        with suppress(ImageError):
            return file.length()
        return None
    return os.path.getsize(file) if os.path.isfile(file) else None
