"""Runs images through an engine, in order; the next images are decoded while the current batch is computed.

Photographs that are cut into tiles give one result for each tile, and `whole` joins these.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from blemish.engines import BATCH, Arrays, Engine
from blemish.errors import ImageError
from blemish.images import Geometry, ImageLike, Mosaic, Pixels, Place, decode_ahead, read_image, read_tiles, waiting

NOT_FINITE = "has a score or a map that is not finite, so there is no verdict; is the model damaged?"


@dataclass(frozen=True)
class Chunk:
    """The results of one batch.

    Attributes:
        indices: for each row the index of its image.
        places: for each row the place of its tile; empty if images are not cut.
        arrays: the results.
        errors: of the images that failed since the last chunk, by index.
    """

    indices: list[int]
    places: list[Place]
    arrays: Arrays
    errors: dict[int, ImageError]

    @property
    def finished(self) -> int:
        """How many images were completed in this chunk, with a result or an error."""
        whole = sum(place.is_last for place in self.places) if self.places else len(self.indices)
        return whole + len(self.errors)


class NotFiniteError(ImageError):
    """An image whose score or map is not finite."""


@dataclass(frozen=True)
class Scored:
    """Score and map (H, W) of one image, both finite; or the error that explains why there are none."""

    index: int
    score: float
    map: NDArray[np.float32] | None
    error: ImageError | None = None


def stream(engine: Engine, sources: Sequence[ImageLike], geometry: Geometry) -> Iterator[Chunk]:
    """Yields the results of all sources in order: each is a row, a row for each tile, or an error of a chunk."""
    waiting: list[Chunk] = []
    left = Chunk([], [], (), {})

    def batches() -> Iterator[NDArray[np.uint8]]:
        nonlocal left
        images: list[Pixels] = []
        for index, place, image in _images(sources, geometry):
            if isinstance(image, ImageError):
                left.errors[index] = image
                continue
            images.append(image)
            left.indices.append(index)
            if place is not None:
                left.places.append(place)
            if len(images) == BATCH or (place is not None and place.is_last and _is_large(place, geometry)):
                waiting.append(left)
                yield np.stack(images)
                images, left = [], Chunk([], [], (), {})
        if images:
            waiting.append(left)
            left = Chunk([], [], (), {})
            yield np.stack(images)

    for arrays in engine.run(batches()):
        yield replace(waiting.pop(0), arrays=arrays)
    if left.errors:
        yield left


def whole(chunks: Iterable[Chunk], geometry: Geometry) -> Iterator[Scored]:
    """Yields one result for each image, in order, from chunks of scores and maps; the maps of tiles are joined.

    An image with a score or map that is not finite gets an error instead.
    """
    mosaic: Mosaic | None = None
    broken: set[int] = set()
    for chunk in chunks:
        ready = {index: Scored(index, float("nan"), None, error) for index, error in chunk.errors.items()}
        for row, index in enumerate(chunk.indices):
            score, values = float(chunk.arrays[0][row]), chunk.arrays[1][row]
            if not (math.isfinite(score) and np.isfinite(values).all()):
                broken.add(index)
            if not chunk.places:
                ready[index] = Scored(index, score, values)
                continue
            place = chunk.places[row]
            mosaic = mosaic or Mosaic(geometry.tiling, place.height, place.width)
            mosaic.add(place, score, values)
            if place.is_last:
                ready[index] = Scored(index, mosaic.score, mosaic.map)
                mosaic = None
        for index in sorted(ready):
            scored = ready.pop(index)
            if index in broken:
                broken.remove(index)
                scored = Scored(index, math.nan, None, NotFiniteError("", NOT_FINITE))
            yield scored


def _is_large(place: Place, geometry: Geometry) -> bool:
    """Whether a photograph is so large that its batch must not wait for tiles of the next one."""
    return place.height * place.width > BATCH * geometry.tiling.side**2


def _images(
    sources: Sequence[ImageLike], geometry: Geometry
) -> Iterator[tuple[int, Place | None, Pixels | ImageError]]:
    if geometry.tile is None:
        decoded = decode_ahead(
            partial(read_image, geometry=geometry), sources, ahead=waiting(geometry.bytes, 2 * BATCH)
        )
        yield from ((index, None, image) for index, image in enumerate(decoded))
        return
    for index, source in enumerate(sources):
        # One at a time: a large photograph must not wait in memory for another.
        try:
            for place, image in read_tiles(source, geometry):
                yield index, place, image
        except ImageError as error:
            yield index, None, error
