"""Photographs that are cut into tiles; each tile is then an image of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import IO

import numpy as np
from PIL import Image

from blemish.errors import ImageError
from blemish.images.copies import new_digest
from blemish.images.geometry import Geometry
from blemish.images.reading import BAND, ImageLike, Pixels, name_of, read_header, whole_image
from blemish.images.remote import Location
from blemish.images.tiling import Place, Tiling

IN_MEMORY = 128 << 20
"""Bytes of a photograph's pixels that are kept in memory while its tiles are read."""


@dataclass(frozen=True)
class Photograph:
    """A decoded photograph, whose tiles are read one row of them at a time.

    Attributes:
        digest: identifies its pixels, in hexadecimal.
    """

    digest: str
    _rows: IO[bytes]
    _width: int
    _places: list[Place]
    _geometry: Geometry

    def tiles(self) -> Iterator[tuple[Place, Pixels]]:
        """Yields the tiles, each of the geometry's shape, row by row."""
        side, width = self._geometry.tiling.side, self._width
        for top, tiles in groupby(self._places, lambda place: place.top):
            self._rows.seek(3 * top * width)
            band = np.frombuffer(self._rows.read(3 * side * width), np.uint8).reshape(side, width, 3)
            for place in tiles:
                cut = Image.fromarray(band[:, place.left : place.left + side])
                yield place, np.asarray(self._geometry.apply(cut))


@contextmanager
def open_photograph(source: ImageLike, geometry: Geometry) -> Iterator[Photograph]:
    """Decodes a photograph, once; it can be read within the context.

    If its pixels take more than `IN_MEMORY`, they wait in a temporary file.

    Raises:
        ImageError: as `read_image` does; the photograph is smaller than a tile; or there is no space for its pixels.
    """
    with tempfile.SpooledTemporaryFile(IN_MEMORY) as rows:
        with whole_image(source) as photograph:
            height, width = photograph.height, photograph.width
            places = _places(source, geometry.tiling, height, width)
            digest = _write(photograph, rows, source)
        del photograph
        yield Photograph(digest, rows, width, places, geometry)


def read_tiles(source: ImageLike, geometry: Geometry) -> Iterator[tuple[Place, Pixels]]:
    """Yields the tiles of a photograph. Raises `ImageError` as `open_photograph` does, before the first tile."""
    with open_photograph(source, geometry) as photograph:
        yield from photograph.tiles()


def read_tile(source: ImageLike, place: Place | int, geometry: Geometry) -> Pixels:
    """Returns one tile of a photograph, by its place or its number. Raises `ImageError` as `read_tiles` does."""
    side = geometry.tiling.side
    with whole_image(source) as photograph:
        if isinstance(place, int):
            place = _places(source, geometry.tiling, photograph.height, photograph.width)[place]
        tile = photograph.crop((place.left, place.top, place.left + side, place.top + side))
        return np.asarray(geometry.apply(tile))


def count_tiles(path: Location, geometry: Geometry) -> int:
    """Returns how many tiles a photograph has, by its header. Raises `ImageError` as `read_tiles` does."""
    header = read_header(path, geometry)
    return len(
        _places(path, geometry.tiling, header.height, header.width)
    )  # EXIF rotation does not change their number


def _write(photograph: Image.Image, rows: IO[bytes], source: ImageLike) -> str:
    """Writes the pixels, a few rows at a time, and returns their digest."""
    width, height = photograph.size
    step = max(1, BAND // width)
    digest = new_digest(height, width)
    try:
        for top in range(0, height, step):
            pixels = photograph.crop((0, top, width, min(top + step, height))).tobytes()
            digest.update(pixels)
            rows.write(pixels)
    except OSError as error:
        raise ImageError(
            name_of(source),
            f"no space in {tempfile.gettempdir()} for its pixels ({error.strerror}); make some, or set TMPDIR",
        ) from error
    return digest.hexdigest()


def _places(source: ImageLike, tiling: Tiling, height: int, width: int) -> list[Place]:
    if min(height, width) < tiling.side:
        raise ImageError(
            name_of(source),
            f"is {height}x{width}, smaller than the model's tiles of {tiling.side}; leave it out, "
            "or fit with a smaller --tile",
        )
    return tiling.places(height, width)
