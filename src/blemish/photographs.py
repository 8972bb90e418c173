"""Photographs that are cut into tiles, each of which goes the way of an image by itself."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import numpy as np
from PIL import Image

from blemish.errors import ImageError
from blemish.images import Geometry, Pixels, read_size, read_whole
from blemish.tiling import Place, Tiling

IN_MEMORY = 128 << 20
"""Bytes of a photograph's pixels that are kept in memory while its tiles are read."""


def read_tiles(source: Path | Pixels, geometry: Geometry) -> Iterator[tuple[Place, Pixels]]:
    """The tiles of a photograph, each of the geometry's shape, row by row; the photograph is decoded once.

    Its pixels then wait outside of memory where they are many, and a row of tiles is there at a time.

    Raises:
        ImageError: as `read_image` does, before the first tile; the photograph is smaller than a tile; or there is no
            space for its pixels.
    """
    photograph = read_whole(source)
    height, width = photograph.height, photograph.width
    places = _places(source, geometry.tiling, height, width)
    side = geometry.tiling.side
    directory = tempfile.gettempdir()
    with tempfile.SpooledTemporaryFile(IN_MEMORY) as rows:
        try:
            for top in range(0, height, side):
                rows.write(photograph.crop((0, top, width, min(top + side, height))).tobytes())
        except OSError as error:
            raise ImageError(
                _name(source), f"no space in {directory} for its pixels ({error.strerror}); make some, or set TMPDIR"
            ) from error
        del photograph
        for top, tiles in groupby(places, lambda place: place.top):
            rows.seek(3 * top * width)
            band = np.frombuffer(rows.read(3 * side * width), np.uint8).reshape(side, width, 3)
            for place in tiles:
                cut = Image.fromarray(band[:, place.left : place.left + side])
                yield place, np.asarray(geometry.apply(cut))


def read_tile(source: Path | Pixels, place: Place | int, geometry: Geometry) -> Pixels:
    """One of the tiles of a photograph, by its place or its number. Raises `ImageError` as `read_tiles` does."""
    photograph = read_whole(source)
    if isinstance(place, int):
        place = _places(source, geometry.tiling, photograph.height, photograph.width)[place]
    side = geometry.tiling.side
    return np.asarray(geometry.apply(photograph.crop((place.left, place.top, place.left + side, place.top + side))))


def count_tiles(path: Path, geometry: Geometry) -> int:
    """How many tiles a photograph has, by its header. Raises `ImageError` as `read_tiles` does."""
    return len(_places(path, geometry.tiling, *read_size(path)))


def _places(source: Path | Pixels, tiling: Tiling, height: int, width: int) -> list[Place]:
    if min(height, width) < tiling.side:
        raise ImageError(
            _name(source),
            f"is {height}x{width}, smaller than the model's tiles of {tiling.side}; leave it out, "
            "or fit with a smaller --tile",
        )
    return tiling.places(height, width)


def _name(source: Path | Pixels) -> Path | str:
    return "<array>" if isinstance(source, np.ndarray) else source
