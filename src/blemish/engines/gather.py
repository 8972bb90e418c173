"""The scores and maps of chunks, gathered for a calibration."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from blemish.calibration import Gathered
from blemish.engines.stream import Chunk, NotFiniteError, whole
from blemish.errors import DegenerateError
from blemish.images import Geometry, Location


def gather(
    gathered: Gathered,
    chunks: Iterable[Chunk],
    geometry: Geometry,
    paths: Sequence[Location],
    name_of: Callable[[int], str],
    detector: str,
) -> None:
    """Takes in the score and the map of each image of the chunks, in place.

    Args:
        gathered: so far.
        chunks: of scores and maps.
        geometry: of the images.
        paths: of all images, for errors.
        name_of: returns the name of an image by its index.
        detector: its name, for errors.

    Raises:
        DegenerateError: a score or a map is not finite.
    """
    for image in whole(chunks, geometry):
        if isinstance(image.error, NotFiniteError):
            raise DegenerateError(
                f"{paths[image.index]}: its score is not finite, so {detector} cannot tell good images from others "
                "here; give images that differ more, or other settings"
            )
        if image.map is not None:
            gathered.update(image.score, image.map, name_of(image.index), image.digest, image.layers)
