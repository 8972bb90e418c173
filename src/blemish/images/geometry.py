"""How an image of any size becomes the model's input: resized, and cropped at the centre or cut into tiles."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from PIL import Image

from blemish.errors import SettingError
from blemish.images.tiling import LARGEST, SMALLEST, Tiling

DIGITS = 100
"""A number in a size must have fewer digits than this; Python refuses to read several thousand."""

NARROWEST = math.log(16)
"""The most extreme proportion of a picture, in either direction, as log(height / width)."""

GAP = 2.0
"""Before the last step of resizing, an image is at least this many times as large as wanted."""


@dataclass(frozen=True)
class Geometry:
    """How an image of any size becomes the model's input: resize to `height` × `width`, then centre crop.

    With `tile`, an image is a photograph, and this is done to each of its tiles.

    Attributes:
        height, width: after resizing.
        crop: side of the centre crop.
        tile: side of the tiles, in the photograph's own pixels.
        overlap: pixels that neighbouring tiles share, at least.

    Raises:
        SettingError: a side below 32 or above 4096 pixels, a crop larger than the resized image or of tiles, or an
            overlap that is not below the tile.
    """

    height: int = 256
    width: int = 256
    crop: int | None = None
    tile: int | None = None
    overlap: int = 0

    def __post_init__(self) -> None:
        if self.tile is not None:
            Tiling(self.tile, self.overlap)  # raises if out of range
        for side in (self.height, self.width):
            if not SMALLEST <= side <= LARGEST:
                raise SettingError(f"size {side} is out of range; give {SMALLEST} to {LARGEST} pixels")
        if self.crop is not None and not SMALLEST <= self.crop <= min(self.height, self.width):
            raise SettingError(
                f"crop {self.crop} does not fit; give {SMALLEST} to {min(self.height, self.width)}, "
                f"the shorter side of the resized image ({self.height}x{self.width})"
            )
        if self.crop is not None and self.tile is not None:
            raise SettingError("tiles cannot be cropped; give a crop or a tile")

    @property
    def tiling(self) -> Tiling:
        """How photographs are cut. Raises `SettingError` if they are not."""
        if self.tile is None:
            raise SettingError("images are not cut into tiles here; give a tile")
        return Tiling(self.tile, self.overlap)

    @classmethod
    def parse(
        cls, size: str | int, crop: int | None = None, tile: int | None = None, overlap: int | None = None
    ) -> Geometry:
        """Reads `256` or `240x320` (height × width); the overlap is a quarter of the tile by default.

        Raises:
            SettingError: text of another form, or an overlap without tiles.
        """
        if overlap is not None and tile is None:
            raise SettingError("--overlap is for tiles; give --tile too")
        if tile is not None and not SMALLEST <= tile <= LARGEST:
            raise SettingError(f"tile {tile} is out of range; give {SMALLEST} to {LARGEST} pixels")
        sides = str(size).lower().split("x")
        if len(sides) > 2 or not all(side.strip().isdecimal() and len(side) < DIGITS for side in sides):
            raise SettingError(f"size {size!r} is not a size; give one number (256) or height x width (240x320)")
        numbers = [int(side) for side in sides]
        shared = overlap if overlap is not None else (tile or 0) // 4
        return cls(numbers[0], numbers[-1], crop, tile, shared)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of what the model sees."""
        return (self.crop, self.crop) if self.crop else (self.height, self.width)

    @property
    def bytes(self) -> int:
        """Size of the model's input in bytes."""
        return 3 * self.shape[0] * self.shape[1]

    @property
    def margins(self) -> tuple[int, int]:
        """Rows and columns that the crop removes at the top and at the left."""
        return (0, 0) if self.crop is None else ((self.height - self.crop) // 2, (self.width - self.crop) // 2)

    def displayed(self, proportion: float) -> tuple[int, int]:
        """Returns height and width of a picture that shows what the model sees of an image in the image's proportion.

        It has about as many pixels as the model's input, and one side is at most 16 times as long as the other.

        Args:
            proportion: log(height / width) of the image; tiles of a photograph are square whatever it is.
        """
        height, width = self.shape
        seen = 0.0
        if self.tile is None:
            seen = proportion + math.log(height / self.height) - math.log(width / self.width)
        stretch = math.exp(max(-NARROWEST, min(NARROWEST, seen)) / 2)
        side = math.sqrt(height * width)
        return round(side * stretch), round(side / stretch)

    def apply(self, image: Image.Image, resample: Image.Resampling = Image.Resampling.BICUBIC) -> Image.Image:
        """Returns `image` resized and cropped."""
        if image.size != (self.width, self.height):
            image = image.resize((self.width, self.height), resample, reducing_gap=GAP)
        return self._cropped(image)

    def apply_to_bands(self, bands: Iterator[tuple[int, Image.Image]], width: int, height: int) -> Image.Image:
        """Returns what `apply` gives, to the bit, for an image that comes in bands, each with its first row.

        Args:
            bands: RGB or grey; their rows are a multiple of the second of `factors(width, height)`.
            width, height: of the whole image.
        """
        across, down = self.factors(width, height)
        first = next(bands)
        reduced = Image.new(first[1].mode, (math.ceil(width / across), math.ceil(height / down)))
        for top, band in chain([first], bands):
            reduced.paste(band.reduce((across, down)), (0, top // down))
        box = (0, 0, width / across, height / down)  # as in Pillow's `resize`, whose first half was done above
        return self._cropped(reduced.resize((self.width, self.height), Image.Resampling.BICUBIC, box))

    def factors(self, width: int, height: int) -> tuple[int, int]:
        """Returns by which whole numbers an image of this size is shrunk first, across and down; as Pillow does."""
        return int(width / self.width / GAP) or 1, int(height / self.height / GAP) or 1

    def _cropped(self, image: Image.Image) -> Image.Image:
        if self.crop is None:
            return image
        top, left = self.margins
        return image.crop((left, top, left + self.crop, top + self.crop))
