"""Runs images through an engine, in order; the next images are decoded while the current batch is computed.

Photographs that are cut into tiles give one result for each tile, and `whole` joins these.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

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
    open_photograph,
    read_image,
    waiting,
)
from blemish.images.copies import digest_of

if TYPE_CHECKING:
    from torch import Tensor

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
        owners: for each row the digest of its image.
        repeated: images that were left out since the last chunk because they are known, by index, with their digests.
    """

    indices: list[int]
    places: list[Place]
    arrays: Arrays
    errors: dict[int, ImageError]
    virtual: list[bool]
    digests: dict[int, str]
    owners: list[str] = field(default_factory=list)
    repeated: dict[int, str] = field(default_factory=dict)

    @classmethod
    def empty(cls) -> Chunk:
        """Returns a chunk of no rows."""
        return cls([], [], (), {}, [], {})

    @property
    def finished(self) -> int:
        """How many images were completed in this chunk, with a result or an error, or left out."""
        return len(self.digests) + len(self.errors) + len(self.repeated)

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
            owners=[self.owners[row] for row in kept] if self.owners else [],
        )


class NotFiniteError(ImageError):
    """An image whose score or map is not finite."""


@dataclass(frozen=True)
class Scored:
    """Score and map (H, W) of one image, both finite; or the error that explains why there are none.

    Attributes:
        index: of the image.
        digest: of its pixels, as the model sees them; empty if there is an error.
        layers: a typical and the highest value of each layer's map, (L,) each; empty if the chunks had none.
    """

    index: int
    score: float
    map: NDArray[np.float32] | None
    error: ImageError | None = None
    digest: str = ""
    layers: tuple[Sequence[float], Sequence[float]] = ((), ())


def stream(
    engine: Engine,
    sources: Iterable[ImageLike],
    geometry: Geometry,
    copies: Copies | None = None,
    known: Container[str] | None = None,
) -> Iterator[Chunk]:
    """Yields the results of all sources in order: each source is a row, a row for each tile, or an error of a chunk.

    Each row is followed by those of its shifted copies, if copies are asked for. The engine does not run for an image
    that is left out.

    Args:
        engine: what runs.
        sources: the images.
        geometry: how they become its input.
        copies: shifted copies of each image.
        known: leave out images with these digests, and images that came before; `None` leaves out none.
    """
    waiting: list[Chunk] = []
    left = Chunk.empty()

    def batches() -> Iterator[NDArray[np.uint8]]:
        nonlocal left
        images: list[Pixels] = []
        for index, image in _images(sources, geometry, known):
            if isinstance(image, ImageError):
                left.errors[index] = image
                continue
            if isinstance(image, str):
                left.repeated[index] = image
                continue
            rows = [image.pixels, *(copies.of(image.pixels) if copies else ())]
            place = image.place
            for number, row in enumerate(rows):
                images.append(row)
                left.indices.append(index)
                left.virtual.append(number > 0)
                left.owners.append(image.digest)
                if place is not None:
                    left.places.append(place)
                if number == 0 and (place is None or place.is_last):
                    left.digests[index] = image.digest
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
    if left.errors or left.repeated:
        yield left


def whole(chunks: Iterable[Chunk], geometry: Geometry) -> Iterator[Scored]:
    """Yields one result for each image, in order, from chunks of scores and maps; the maps of tiles are joined.

    Chunks may also have a typical and the highest value of each layer's map. From tiles, the median of the typical
    values and the largest of the highest ones are taken. An image with a score or map that is not finite gets an error
    instead.
    """
    mosaic: Mosaic | None = None
    of_tiles: list[list[NDArray[np.float32]]] = []
    broken: set[int] = set()
    for chunk in chunks:
        ready = {index: Scored(index, float("nan"), None, error) for index, error in chunk.errors.items()}
        for row, index in enumerate(chunk.indices):
            score, values = float(chunk.arrays[0][row]), chunk.arrays[1][row]
            if not (math.isfinite(score) and np.isfinite(values).all()):
                broken.add(index)
            layers = [array[row] for array in chunk.arrays[2:]] or [np.zeros(0, np.float32)] * 2
            if not chunk.places:
                ready[index] = Scored(index, score, values, None, chunk.digests[index], (layers[0], layers[1]))
                continue
            place = chunk.places[row]
            mosaic = mosaic or Mosaic(geometry.tiling, place.height, place.width)
            mosaic.add(place, score, values)
            of_tiles.append(layers)
            if place.is_last:
                typical, highest = (np.stack(column) for column in zip(*of_tiles, strict=True))
                joined = (np.median(typical, axis=0), highest.max(axis=0))
                ready[index] = Scored(index, mosaic.score, mosaic.map, None, chunk.digests[index], joined)
                mosaic, of_tiles = None, []
        for index in sorted(ready):
            scored = ready.pop(index)
            if index in broken:
                broken.remove(index)
                scored = Scored(index, math.nan, None, NotFiniteError("", NOT_FINITE))
            yield scored


def tensors(arrays: Iterable[NDArray[np.float32]]) -> list[Tensor]:
    """Returns arrays as tensors that share their memory."""
    import torch

    return [torch.from_numpy(array) for array in arrays]


def _is_large(place: Place, geometry: Geometry) -> bool:
    """Whether a photograph is so large that its last batch does not wait for tiles of the next one."""
    return place.height * place.width > BATCH * geometry.tiling.side**2


@dataclass(frozen=True)
class _Row:
    """One image, or one tile of a photograph, and the digest of the whole."""

    pixels: Pixels
    digest: str
    place: Place | None


def _images(
    sources: Iterable[ImageLike], geometry: Geometry, known: Container[str] | None
) -> Iterator[tuple[int, _Row | str | ImageError]]:
    """Yields the rows of each source, its digest alone if it is left out, or its error."""
    came: set[str] = set()

    def is_known(digest: str) -> bool:
        if known is None:
            return False
        found = digest in came or digest in known
        came.add(digest)
        return found

    if geometry.tile is None:
        decoded = decode_ahead(
            partial(read_image, geometry=geometry), sources, ahead=waiting(geometry.bytes, 2 * BATCH)
        )
        for index, image in enumerate(decoded):
            if isinstance(image, ImageError):
                yield index, image
                continue
            digest = digest_of(image).hex()
            yield index, digest if is_known(digest) else _Row(image, digest, None)
        return
    for index, source in enumerate(sources):
        # One at a time: a large photograph must not wait in memory for another.
        try:
            with open_photograph(source, geometry) as photograph:
                if is_known(photograph.digest):
                    yield index, photograph.digest
                    continue
                for place, tile in photograph.tiles():
                    yield index, _Row(tile, photograph.digest, place)
        except ImageError as error:
            yield index, error
