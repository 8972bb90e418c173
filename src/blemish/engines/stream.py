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
from blemish.images import (
    Copies,
    Geometry,
    ImageLike,
    Mosaic,
    Pixels,
    Place,
    decode_ahead,
    read_image,
    read_tiles,
    waiting,
)
from blemish.images.copies import digest_of, joined_digest

NOT_FINITE = "has a score or a map that is not finite, so there is no verdict; is the model damaged?"


@dataclass(frozen=True)
class Chunk:
    """The results of one batch.

    Attributes:
        indices: for each row the index of its image.
        places: for each row the place of its tile; empty if images are not cut.
        arrays: the results.
        errors: of the images that failed since the last chunk, by index.
        virtual: for each row whether it is a shifted copy of the image.
        digests: of the images whose last row, without copies, is here, by index.
    """

    indices: list[int]
    places: list[Place]
    arrays: Arrays
    errors: dict[int, ImageError]
    virtual: list[bool]
    digests: dict[int, str]

    @classmethod
    def empty(cls) -> Chunk:
        """Returns a chunk of no rows."""
        return cls([], [], (), {}, [], {})

    @property
    def finished(self) -> int:
        """How many images were completed in this chunk, with a result or an error."""
        return len(self.digests) + len(self.errors)

    def real(self) -> Chunk:
        """Returns the chunk without the rows of shifted copies."""
        if not any(self.virtual):
            return self
        kept = [row for row, virtual in enumerate(self.virtual) if not virtual]
        return replace(
            self,
            indices=[self.indices[row] for row in kept],
            places=[self.places[row] for row in kept] if self.places else [],
            arrays=tuple(array[kept] for array in self.arrays),
            virtual=[False] * len(kept),
        )


class NotFiniteError(ImageError):
    """An image whose score or map is not finite."""


@dataclass(frozen=True)
class Scored:
    """Score and map (H, W) of one image, both finite; or the error that explains why there are none.

    Attributes:
        index: of the image.
        digest: of its pixels, as the model sees them; empty if there is an error.
    """

    index: int
    score: float
    map: NDArray[np.float32] | None
    error: ImageError | None = None
    digest: str = ""


def stream(
    engine: Engine, sources: Sequence[ImageLike], geometry: Geometry, copies: Copies | None = None
) -> Iterator[Chunk]:
    """Yields the results of all sources in order: each is a row, a row for each tile, or an error of a chunk.

    Each row is followed by those of its shifted copies, if there are to be any.
    """
    waiting: list[Chunk] = []
    left = Chunk.empty()

    def batches() -> Iterator[NDArray[np.uint8]]:
        nonlocal left
        images: list[Pixels] = []
        parts: list[bytes] = []
        for index, place, image in _images(sources, geometry):
            if isinstance(image, ImageError):
                left.errors[index] = image
                continue
            parts.append(digest_of(image))
            rows = [image, *(copies.of(image) if copies else ())]
            for number, row in enumerate(rows):
                images.append(row)
                left.indices.append(index)
                left.virtual.append(number > 0)
                if place is not None:
                    left.places.append(place)
                if number == 0 and (place is None or place.is_last):
                    left.digests[index] = joined_digest(parts)
                    parts = []
                ends = number == len(rows) - 1 and place is not None and place.is_last and _is_large(place, geometry)
                if len(images) == BATCH or ends:
                    waiting.append(left)
                    yield np.stack(images)
                    images, left = [], Chunk.empty()
        if images:
            waiting.append(left)
            left = Chunk.empty()
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
                ready[index] = Scored(index, score, values, None, chunk.digests[index])
                continue
            place = chunk.places[row]
            mosaic = mosaic or Mosaic(geometry.tiling, place.height, place.width)
            mosaic.add(place, score, values)
            if place.is_last:
                ready[index] = Scored(index, mosaic.score, mosaic.map, None, chunk.digests[index])
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
