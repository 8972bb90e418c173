"""Checks that there are enough different images for a fit, before the backbone runs on any of them."""

from __future__ import annotations

from collections.abc import Container, Sequence
from functools import partial

from blemish.datasets import Dataset
from blemish.errors import BadImagesError, DegenerateError, ImageError, SourceError
from blemish.fitting.frames import source_of
from blemish.images import Geometry, Location, decode_ahead, read_image
from blemish.images.copies import digest_of

AHEAD = 4
"""Images that are decoded before they are asked for; two or three are enough for most sets."""


def check_enough(dataset: Dataset, geometry: Geometry, name: str, fewest: int) -> None:
    """Looks at the training images one by one until so many different ones are found.

    Photographs that are cut into tiles are compared as a whole, and two of them are enough.

    Args:
        dataset: whose training part is looked at.
        geometry: of the images.
        name: of the detector, for errors.
        fewest: different images that it needs.

    Raises:
        SourceError: there are fewer images.
        BadImagesError: fewer can be read.
        DegenerateError: all of them are the same picture, or show fewer different ones.
    """
    paths = [sample.path for sample in dataset.train]
    fewest, seen = (fewest, geometry) if geometry.tile is None else (2, Geometry())
    if len(paths) < fewest:
        count = "1 image" if len(paths) == 1 else f"{len(paths)} images"
        needs = f", and {name} needs {fewest}" if fewest > 2 and len(paths) > 1 else ""
        raise SourceError(f"{source_of(dataset)}: has {count} to fit{needs}; give at least {fewest} good images")
    found: set[bytes] = set()
    bad: list[ImageError] = []
    for image in decode_ahead(partial(read_image, geometry=seen), paths, ahead=AHEAD):
        if isinstance(image, ImageError):
            bad.append(image)
            continue
        found.add(digest_of(image))
        if len(found) == fewest:
            return
    if len(paths) - len(bad) < fewest:
        raise BadImagesError(bad, f"too few are left; give at least {fewest} good images")
    if len(found) == 1:
        raise DegenerateError(
            f"{source_of(dataset)}: all {len(paths) - len(bad)} images to fit are the same picture, so nothing can be "
            "learned about how good images differ; give different ones"
        )
    raise DegenerateError(
        f"{source_of(dataset)}: the {len(paths) - len(bad)} images to fit show only {len(found)} different pictures, "
        f"and {name} needs {fewest}; give more different images"
    )


def is_any_new(paths: Sequence[Location], geometry: Geometry, known: Container[str]) -> bool:
    """Whether one of these images can be read and is not known by its digest, so that it can calibrate."""
    found = decode_ahead(partial(read_image, geometry=geometry), paths, ahead=AHEAD)
    return any(not isinstance(image, ImageError) and digest_of(image).hex() not in known for image in found)
