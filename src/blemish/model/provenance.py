"""Where a model came from: its images, its weights, and what made it."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

PACKAGES = ("blemish", "numpy", "pillow", "openvino", "torch", "timm")
"""Packages whose versions are kept."""

MOST_CHANGES = 1000
"""Changes that a model remembers one by one, at most; the oldest are then joined."""

HISTORY = 16
"""Former calibrations that a model keeps, at most; the oldest are dropped."""


@dataclass(frozen=True)
class CalibratedOn:
    """Which images a model is calibrated on.

    Attributes:
        created: date and time of the calibration, ISO 8601, UTC.
        source: of the images, as it was given.
        images: how many.
        seen: how many of these the model had learned from when it scored them; 0 after a fit, which holds out or
            cross-fits its images.
    """

    created: str
    source: str
    images: int
    seen: int


@dataclass(frozen=True)
class FormerCalibration:
    """A calibration that another one has replaced: its images, and the rates and the threshold in use at its end."""

    created: str
    source: str
    images: int
    rate: float
    threshold: float
    box_rate: float


@dataclass(frozen=True)
class Change:
    """What a model learned, or forgot, at one time.

    Attributes:
        created: date and time, ISO 8601, UTC.
        kind: `fit`, `update`, `merge`, `forget`, or `several` for the oldest ones that were joined.
        source: of the images, as it was given; of a merge, the source of the other model's images.
        images: how many came in, or were taken out.
        repeated: images that were left out because they are inside already.
        skipped: images that could not be read and were left out.
        anomalous: how many new images looked anomalous to the model before.
        left_out: whether these were left out.
        calibrating: how many of those left out, the lowest, still calibrate: as many as are good by chance.
        worst: names and p-values of these, the worst first, `NAMED` at most.
        engine: that computed the features of the images that came in; `several` if different ones did, and empty if
            none came in.
    """

    created: str
    kind: str
    source: str
    images: int
    repeated: int = 0
    skipped: int = 0
    anomalous: int = 0
    left_out: bool = False
    calibrating: int = 0
    worst: tuple[tuple[str, float], ...] = ()
    engine: str = ""


NAMED = 10
"""Images that a change names, at most."""

KINDS_OF_CHANGE = ("fit", "update", "merge", "forget", "several")


@dataclass(frozen=True)
class Provenance:
    """Where images and weights came from, what was learned, and what made the model.

    Attributes:
        created: date and time, ISO 8601, UTC.
        source: of the images, as it was given.
        layout: of the source.
        images: how many the fit used, those held out included.
        images_digest: SHA-256 of their names and sizes.
        held_out: how many of them were held out, to calibrate on; 0 if all were cross-fitted.
        calibration_share: the share that was to be held out; `None` if none was asked for.
        calibration_folds: of the cross-fit that was asked for; `None` if none were.
        trimmed: names of images that looked anomalous themselves and were left out, the worst first.
        skipped: images that could not be read and were left out.
        repeated: images that are the same as an earlier one, and were left out.
        asked_false_alarm_rate: the rate that was asked for; `None` if none was.
        weights: a line that says where the backbone's weights came from.
        learned: the detector's summary of what it learned.
        engine: name of the engine that it was fitted with.
        versions: of Python and of packages, by name.
        calibrated_on: the images of the calibration in use: those that were held out or cross-fitted, or later ones.
        changes: what was learned and forgotten, the oldest first; the first is the fit, or several that were joined.
        history: former calibrations, the oldest first, `HISTORY` at most.
    """

    created: str
    source: str
    layout: str
    images: int
    images_digest: str
    held_out: int
    calibration_share: float | None
    calibration_folds: int | None
    trimmed: tuple[str, ...]
    skipped: int
    repeated: int
    asked_false_alarm_rate: float | None
    weights: str
    learned: dict[str, Any]
    engine: str
    versions: dict[str, str]
    calibrated_on: CalibratedOn
    changes: tuple[Change, ...]
    history: tuple[FormerCalibration, ...] = ()


def now() -> str:
    """Returns date and time, ISO 8601, UTC."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that decide what a model computes, as far as installed."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
