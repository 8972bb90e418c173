"""Where a model came from: its images, its weights, and what made it."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

PACKAGES = ("blemish", "numpy", "pillow", "openvino", "torch", "timm")
"""Packages whose versions are kept."""

MOST_SEEN = 100_000
"""How many images a model remembers that it was fitted on, at most."""


@dataclass(frozen=True)
class Provenance:
    """Where images and weights came from, what was learned, and what made the model.

    Attributes:
        created: date and time, ISO 8601, UTC.
        source: of the images, as it was given.
        layout: of the source.
        images: how many were used, those held out included.
        images_digest: SHA-256 of their names and sizes.
        held_out: how many of them were held out to calibrate; 0 if all were cross-fitted.
        calibration_share: the share that was to be held out; `None` if none was asked for.
        calibration_folds: of the cross-fit that was asked for; `None` if none were.
        seen: digests of the pixels of the images, sorted; at most `MOST_SEEN` of them.
        trimmed: names of images that looked anomalous themselves and were left out, the worst first.
        skipped: images that could not be read and were left out.
        asked_false_alarm_rate: the rate that was asked for; `None` if none was.
        weights: a line that says where the backbone's weights came from.
        learned: the detector's summary of what it learned.
        engine: name of the engine that it was fitted with.
        versions: of Python and of packages, by name.
    """

    created: str
    source: str
    layout: str
    images: int
    images_digest: str
    held_out: int
    calibration_share: float | None
    calibration_folds: int | None
    seen: tuple[str, ...]
    trimmed: tuple[str, ...]
    skipped: int
    asked_false_alarm_rate: float | None
    weights: str
    learned: dict[str, Any]
    engine: str
    versions: dict[str, str]


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that decide what a model computes, as far as installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
