"""Runs an export on real images in its own runtime, and compares its results with the model's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from blemish.calibration.conformal import ROUNDING
from blemish.datasets import evenly_spaced, read_source
from blemish.datasets.sample import name_below
from blemish.engines import Engine
from blemish.engines.stream import stream, whole
from blemish.errors import ExportError, ImageError, SourceError, number_of
from blemish.images import Location, name_of
from blemish.model import Model
from blemish.progress import Progress

SINGLE, HALF = 1e-3, 5e-3
"""The largest allowed relative difference of a score, in single and in half precision. Maps may differ by twice as
much, since a score may be the square root of a map's values."""

IMAGES, PHOTOGRAPHS = 16, 4
"""Images that are compared, at most; fewer if they are photographs that are cut into tiles."""

FAINT = 0.1
"""The difference of a score is relative to the score, but to at least this share of the median calibration score."""

NAMED = 3
"""Images that an error names, at most."""


@dataclass(frozen=True)
class Agreement:
    """How well an export agrees with the model.

    Attributes:
        images: how many images both have scored.
        runtime: what has run the export, and its version.
        allowed: the largest allowed relative difference of a score; for a map, twice as much.
        score_largest: the largest relative difference of a score.
        score_mean: the mean of these differences.
        map_largest: the largest difference of a map's value, as a share of the map's largest value or of the upper half
            of the display scale, whichever is larger.
        flipped: names of images whose verdict changed, although the score is further from the threshold than rounding
            explains.
    """

    images: int
    runtime: str
    allowed: float
    score_largest: float
    score_mean: float
    map_largest: float
    flipped: tuple[str, ...] = ()

    def __str__(self) -> str:
        return (
            f"checked on {number_of(self.images, 'image')} in {self.runtime}: scores differ by "
            f"{self.score_largest:.2g} at most and {self.score_mean:.2g} on average, maps by "
            f"{self.map_largest:.2g} (allowed: {self.allowed:g}, for maps {2 * self.allowed:g})"
        )


def images_to_check(model: Model, source: str | None) -> list[Location]:
    """Returns images for the comparison: some that calibrated the model, evenly from the lowest score to the highest.

    Args:
        model: fitted, or loaded.
        source: other images, as `Model.predict` takes them.

    Raises:
        SourceError: the images that calibrated the model are no longer there.
    """
    most = IMAGES if model.recipe.geometry.tile is None else PHOTOGRAPHS
    if source is not None:
        dataset = read_source(source, model.recipe.seed)
        found = [sample.path for sample in dataset.test or dataset.train]
    else:
        found = _calibrating(model)
    return [found[index] for index in evenly_spaced(len(found), most)]


def _calibrating(model: Model) -> list[Location]:
    """Returns the images that calibrated the model, by score; missing ones are left out."""
    origin = model.provenance.calibrated_on.source
    try:
        dataset = read_source(origin, model.recipe.seed)
        named = {name_below(dataset.root, sample.path): sample.path for sample in dataset.train}
    except SourceError:
        named = {}
    found = [named[name] for name in model.calibration.names if name in named]
    if not found:
        raise SourceError(
            f"{origin}: the images that calibrated the model are no longer there, and an export is checked on real "
            "images; give some with --images SOURCE (in Python, images=)"
        )
    return found


def compare(
    model: Model, exported: Engine, runtime: str, images: Sequence[Location], allowed: float, progress: Progress | None
) -> Agreement:
    """Returns how well an export agrees with the model on these images.

    Args:
        model: fitted, or loaded.
        exported: runs the export.
        runtime: what runs it.
        images: to compare on.
        allowed: the largest allowed relative difference of a score; for a map, twice as much.
        progress: called with the stage, and how many images of how many are done.

    Raises:
        ExportError: a difference is larger, or a result is not finite.
        ImageError: an image cannot be read.
    """
    geometry, calibration = model.recipe.geometry, model.calibration
    faint = FAINT * float(np.median(np.abs(calibration.scores)))
    bright = (calibration.display[1] - calibration.display[0]) / 2
    scores, maps, flipped = list[float](), list[float](), list[str]()
    results = whole(stream(exported, images, geometry), geometry)
    for expected, found in zip(model.judge(images), results, strict=True):
        image = images[found.index]
        if expected.map is None:
            raise ImageError(image, expected.error or "has no score")
        if found.map is None:
            raise ExportError(f"{image}: the export's score or map is not finite in {runtime}, so it is not written")
        scores.append(abs(found.score - expected.score) / max(abs(expected.score), faint))
        largest = max(float(np.abs(expected.map).max()), bright)
        maps.append(float(np.abs(found.map - expected.map).max()) / largest)
        distance = abs(expected.score - model.threshold)
        if (found.score > model.threshold) != expected.is_anomaly and distance > ROUNDING * abs(model.threshold):
            flipped.append(str(name_of(image)))
        if progress:
            progress("check", found.index + 1, len(images))
    agreement = Agreement(
        len(scores), runtime, allowed, max(scores), math.fsum(scores) / len(scores), max(maps), tuple(flipped)
    )
    wrong = [
        str(name_of(image))
        for image, score, values in zip(images, scores, maps, strict=True)
        if score > allowed or values > 2 * allowed
    ]
    if wrong:
        more = f" and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
        raise ExportError(
            f"the export differs from the model, so it is not written: {agreement}; too much on "
            f"{', '.join(wrong[:NAMED])}{more}"
        )
    return agreement
