"""Reads from a GeoTIFF's tags where its pixels lie on the ground (OGC 19-008r4, GeoTIFF 1.1), within limits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import TiffImagePlugin

from blemish.errors import ImageError
from blemish.images.files import DECODING_ERRORS, opened
from blemish.images.remote import Location

PIXEL_SCALE, TIEPOINT, TRANSFORMATION, KEYS = 33550, 33922, 34264, 34735
"""Tags: metres (or degrees) of a pixel, where one pixel lies, a matrix in place of both, and the directory of keys."""

ORIENTATION = 274
MODEL_TYPE, RASTER_TYPE, GEOGRAPHIC, PROJECTED, LINEAR_UNITS = 1024, 1025, 2048, 3072, 3076
IS_GEOGRAPHIC, IS_POINT, OWN = 2, 2, 32767
MOST_KEYS = 256

UNITS = {9001: "metre", 9002: "foot", 9003: "US survey foot"}
EARTH = 6_371_008.8
"""Mean radius of the Earth, in metres."""


@dataclass(frozen=True)
class Georeference:
    """The ground's coordinates of an image's pixels: x = a · column + b · row + c, and y = d · column + e · row + f.

    Rows and columns count from the outer corner of the first pixel.

    Attributes:
        across: a, b and c.
        down: d, e and f.
        epsg: the number of the coordinate system in EPSG's list; `None` if the file names none.
        unit: of the coordinates: `degree`, `metre`, `foot`, `US survey foot`; empty if the file does not say.
    """

    across: tuple[float, float, float]
    down: tuple[float, float, float]
    epsg: int | None
    unit: str

    @property
    def crs(self) -> str:
        """The coordinate system: `EPSG:32633`, or `unknown`."""
        return "unknown" if self.epsg is None else f"EPSG:{self.epsg}"

    def place(self, row: float, column: float) -> tuple[float, float]:
        """Returns x and y of a point of the image; longitude and latitude where the unit is a degree."""
        (a, b, c), (d, e, f) = self.across, self.down
        return a * column + b * row + c, d * column + e * row + f

    def area(self, pixels: float, row: float, column: float) -> float:
        """Returns the area of so many pixels around a point, in squares of the unit, and for degrees in square metres.

        From degrees it is computed on a sphere, which differs by up to 0.7 % from the Earth.
        """
        (a, b, _), (d, e, _) = self.across, self.down
        area = pixels * abs(a * e - b * d)
        if self.unit != "degree":
            return area
        latitude = math.radians(self.place(row, column)[1])
        return area * math.radians(1) ** 2 * EARTH**2 * max(0.0, math.cos(latitude))

    @property
    def area_unit(self) -> str:
        """The unit of `area`, such as `square metre`; empty if it is not known."""
        return "square metre" if self.unit == "degree" else f"square {self.unit}" if self.unit else ""


def read_georeference(source: Location | bytes) -> Georeference | None:
    """Returns where an image's pixels lie; `None` if it is not a TIFF, or if its tags do not give this as one matrix.

    Files beside the image (`.tfw`, `.aux.xml`) are not read, and neither are several tie points without a scale. An
    image that says it is stored turned or mirrored has none, since its tags count the pixels as stored.

    Raises:
        ImageError: as `read_image` does.
    """
    if isinstance(source, Path) and source.suffix.lower() not in {".tif", ".tiff"}:
        return None
    with opened(source) as image:
        if not isinstance(image, TiffImagePlugin.TiffImageFile):
            return None
        try:
            tags = image.tag_v2
            if tags.get(ORIENTATION, 1) != 1:
                return None
            found = {tag: _numbers(tags.get(tag)) for tag in (PIXEL_SCALE, TIEPOINT, TRANSFORMATION, KEYS)}
        except (*DECODING_ERRORS, TypeError, KeyError, OverflowError):
            return None
    matrix = _matrix(found[PIXEL_SCALE], found[TIEPOINT], found[TRANSFORMATION])
    if matrix is None:
        return None
    keys = _keys(found[KEYS])
    (a, b, c), (d, e, f) = matrix
    if keys.get(RASTER_TYPE) == IS_POINT:  # the matrix counts from the middle of the first pixel
        c, f = c - (a + b) / 2, f - (d + e) / 2
    is_geographic = keys.get(MODEL_TYPE) == IS_GEOGRAPHIC
    epsg = keys.get(GEOGRAPHIC if is_geographic else PROJECTED)
    unit = "degree" if is_geographic else UNITS.get(keys.get(LINEAR_UNITS, 0), "")
    return Georeference((a, b, c), (d, e, f), epsg if epsg and epsg < OWN else None, unit)


def ground_of(path: Location) -> Georeference | None:
    """Returns `read_georeference`; `None` also for an image that can no longer be read."""
    try:
        return read_georeference(path)
    except ImageError:
        return None


def _numbers(value: object) -> list[float]:
    """Returns a tag's values; none if it is absent, too long, or not of finite numbers."""
    values = value if isinstance(value, (tuple, list)) else () if value is None else (value,)
    if len(values) > 4 * (1 + MOST_KEYS) or not all(isinstance(one, (int, float)) for one in values):
        return []
    numbers = [float(one) for one in values]
    return numbers if all(map(math.isfinite, numbers)) else []


def _matrix(
    scale: Sequence[float], tie: Sequence[float], transformation: Sequence[float]
) -> tuple[tuple[float, float, float], tuple[float, float, float]] | None:
    if len(transformation) == 16:
        across = (transformation[0], transformation[1], transformation[3])
        down = (transformation[4], transformation[5], transformation[7])
    elif len(scale) == 3 and len(tie) == 6:
        column, row, _, x, y, _ = tie
        across = (scale[0], 0.0, x - scale[0] * column)
        down = (0.0, -scale[1], y + scale[1] * row)
    else:
        return None
    area = across[0] * down[1] - across[1] * down[0]
    return (across, down) if math.isfinite(area) and area else None


def _keys(directory: Sequence[float]) -> dict[int, int]:
    """Returns the keys that are short numbers, which stand in the directory itself."""
    count = min(int(directory[3]), MOST_KEYS) if len(directory) >= 4 else 0
    entries = [[int(number) for number in directory[4 * n : 4 * n + 4]] for n in range(1, count + 1)]
    return {entry[0]: entry[3] for entry in entries if len(entry) == 4 and entry[1] == 0}
