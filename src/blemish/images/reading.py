"""Reads an image from a file, bytes or an array as uint8 RGB of a model's input size, in little memory.

The rule by which every image becomes uint8 (H, W, 3):

- the first frame counts; EXIF rotation is applied;
- grey is repeated to three channels; palettes are looked up; CMYK and YCbCr are converted as Pillow does, without
  colour profiles; transparent images are drawn on black;
- 16-bit values v become round(v / 257), so that 65535 is always white. Floating point is refused: the file does not
  state its range.

Images in memory come in by the rule of `frames`.

Resizing is Pillow's bicubic, which widens its kernel when it shrinks (antialiased). As long as at least twice the
wanted size remains, an image is first shrunk by a whole number: a JPEG while it is decoded, by two, four or eight, any
other by averaging. The result differs from resizing in one step by at most 2 grey levels on average over an image
(`tests/images/test_reading.py` checks this on real photographs).

Images that are not grey or RGB are converted in bands of rows, and each band is shrunk before the next is converted.
The result is the same to the bit as converting the whole image, without its copies.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

from blemish.errors import ImageError
from blemish.images.ahead import DECODING
from blemish.images.files import DECODING_ERRORS, damaged, opened
from blemish.images.frames import Frame
from blemish.images.geometry import Geometry
from blemish.images.remote import Location, Remote, RemoteFile
from blemish.storage.remote import is_remote

BAND = 1 << 18
"""About how many pixels of an image are converted at a time."""


DEPTHS = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}
"""Bytes of a pixel in Pillow's modes; four in all others."""

ORIENTATION = 0x0112
"""EXIF's tag for the rotation of an image."""

LYING = (5, 6, 7, 8)
"""Rotations that exchange height and width."""

Pixels = NDArray[np.uint8]

ImageLike = Location | Pixels | bytes | Frame
"""A file here or elsewhere, an array, the bytes of a file, or another image in memory."""


@dataclass(frozen=True, slots=True)
class Header:
    """What is known of an image before it is decoded.

    Attributes:
        height, width: as stored, before any rotation.
        decoding: bytes, estimated, that decoding for the given geometry takes at its peak.
    """

    height: int
    width: int
    decoding: int


def name_of(source: ImageLike) -> Location | str:
    """Returns the name of an image for messages."""
    if isinstance(source, (Path, Remote)):
        return source
    return "<bytes>" if isinstance(source, bytes) else _frame(source).name


def read_image(source: str | ImageLike, geometry: Geometry) -> Pixels:
    """Returns the image as uint8 RGB (H, W, 3) of the geometry's shape.

    Args:
        source: a file's path, address or bytes, an array, or another frame, as `frames` says.

    Raises:
        ImageError: the file is missing, empty, truncated, too large, or not an image of a known format; or the array
            has another shape or type, or values out of range.
    """
    if isinstance(source, (np.ndarray, Frame)):
        frame = _frame(source)
        return _shrunk(frame.image(), frame.name, geometry)
    file = located(source) if isinstance(source, str) else source
    name = name_of(file)
    with opened(file) as image, _decoding(image, name, geometry):
        ImageOps.exif_transpose(image, in_place=True)
        return _shrunk(image, name, geometry)


@contextmanager
def whole_image(source: ImageLike) -> Iterator[Image.Image]:
    """Yields the image at its own size, decoded, upright and RGB; it is closed after the context.

    Raises:
        ImageError: as `read_image` does.
    """
    if isinstance(source, (np.ndarray, Frame)):
        frame = _frame(source)
        yield _to_rgb(frame.image(), frame.name)
        return
    name = name_of(source)
    with opened(source) as image:
        with _faults_of(name):
            share = _share(image, None)
        with DECODING.share(share):
            whole = image
            try:
                with _faults_of(name):
                    ImageOps.exif_transpose(image, in_place=True)
                    whole = _to_rgb(image, name)
                yield whole
            finally:
                image.close()
                whole.close()


def located(text: str) -> Location:
    """Returns what a path or an address names."""
    return Remote(text) if is_remote(text) else Path(text)


def read_header(path: Location, geometry: Geometry) -> Header:
    """Returns size and memory of an image, from its header alone. Raises `ImageError` as `read_image` does."""
    with opened(path) as image, _faults_of(path):
        width, height = image.size
        if geometry.tile is None:
            _draft(image, geometry)
        return Header(height, width, _share(image, geometry if geometry.tile is None else None))


def read_size(source: ImageLike) -> tuple[int, int]:
    """Returns height and width of the upright image. Raises `ImageError` as `read_image` does."""
    if isinstance(source, (np.ndarray, Frame)):
        return _frame(source).size
    with opened(source) as image:
        stored = image.height, image.width
        if isinstance(image, TiffImagePlugin.TiffImageFile):  # Pillow has rotated these already
            return stored
        with _decoding(image, name_of(source)):  # a PNG may have its rotation after its pixels
            lies = _orientation(image) in LYING
        return stored[::-1] if lies else stored


def read_proportion(source: ImageLike) -> float:
    """Returns log(height / width) of the upright image, from its header alone: 0 for a square.

    A rotation that a PNG has after its pixels is not seen. Raises `ImageError` as `read_image` does.
    """
    if isinstance(source, (np.ndarray, Frame)):
        height, width = _frame(source).size
        return math.log(height) - math.log(width)
    with opened(source) as image, _faults_of(name_of(source)):
        found = math.log(image.height) - math.log(image.width)
        return -found if _lies(image) else found


def read_format(source: Location | bytes) -> str:
    """Returns the format of the content: `JPEG`, `PNG`, `BMP`, `TIFF` or `WEBP`. Raises as `read_image` does."""
    with opened(source) as image:
        return str(image.format)


def read_mask(
    path: Location, image_path: Location, geometry: Geometry | None = None, *, any_value: bool = False
) -> NDArray[np.bool_]:
    """Returns the ground truth of an image, (H, W), True on defects: at the geometry's shape, or else at its own size.

    In a mask with a palette, every value that is not zero marks a defect; in any other, every value above half of its
    maximum. Masks are resized by nearest neighbour.

    Args:
        path: of the mask.
        image_path: of its image.
        geometry: how the image becomes the model's input.
        any_value: whether every value that is not zero marks a defect, since the values are numbers of classes.

    Raises:
        ImageError: the mask is unreadable, or its size differs from the image's.
    """
    with opened(path) as mask, _decoding(mask, path):
        ImageOps.exif_transpose(mask, in_place=True)
        values = _values(mask)
        half = 0 if mask.mode == "P" or any_value else int(values.max()) // 2
    return fit_mask(values > half, path, image_path, geometry)


def marks_anything(path: Location) -> bool:
    """Whether a mask has a value that is not zero. Raises `ImageError` if it cannot be read."""
    with opened(path) as mask, _decoding(mask, path):
        return bool(_values(mask).any())


def fit_mask(
    marked: NDArray[np.bool_], path: object, image_path: Location, geometry: Geometry | None
) -> NDArray[np.bool_]:
    """Returns a mask (H, W) of an image's size as the geometry's shape, by nearest neighbour; unchanged without one.

    Args:
        marked: True on defects.
        path: where the mask is from, for messages.
        image_path: of its image.
        geometry: how the image becomes the model's input.

    Raises:
        ImageError: its size differs from the image's.
    """
    expected = read_size(image_path)
    if marked.shape != expected:
        raise ImageError(
            path,
            f"the mask is {marked.shape[0]}x{marked.shape[1]} and its image {image_path.name} is "
            f"{expected[0]}x{expected[1]}; save the mask at the size of its image",
        )
    if geometry is None:
        return marked
    resized = geometry.apply(Image.fromarray(marked.view(np.uint8)), Image.Resampling.NEAREST)
    return np.asarray(resized) > 0


def _values(mask: Image.Image) -> NDArray[Any]:
    """Returns a mask's values, (H, W)."""
    return np.asarray(mask if mask.mode in {"1", "P", "I;16", "I;16B", "I"} else mask.convert("L"))


@contextmanager
def _decoding(image: Image.Image, path: Location | str, geometry: Geometry | None = None) -> Iterator[None]:
    """Waits for memory to decode in, turns failures into `ImageError`, and closes the image at the end."""
    with _faults_of(path):
        if geometry is not None:
            _draft(image, geometry)
        with DECODING.share(_share(image, geometry)):
            try:
                yield
            finally:
                image.close()


@contextmanager
def _faults_of(path: Location | str) -> Iterator[None]:
    """Turns what Pillow raises for a damaged file into an `ImageError`."""
    try:
        yield
    except DECODING_ERRORS as error:
        raise damaged(path, error) from error


def _orientation(image: Image.Image) -> object:
    """Returns EXIF's number for the rotation; a PNG that does not have it before its pixels is decoded for it."""
    found: object = image.getexif().get(ORIENTATION, 1)  # anything, if the file is damaged
    return found


def _has_orientation(image: Image.Image) -> bool:
    """Whether `_orientation` is known without decoding."""
    return "exif" in image.info or not isinstance(image, PngImagePlugin.PngImageFile)


def _lies(image: Image.Image) -> bool:
    """Whether height and width will change places when the image is turned upright, by the header."""
    is_tiff = isinstance(image, TiffImagePlugin.TiffImageFile)  # Pillow has rotated these already
    return not is_tiff and _has_orientation(image) and _orientation(image) in LYING


def _draft(image: Image.Image, geometry: Geometry) -> None:
    """Lets a JPEG be shrunk while it is decoded, never below the size asked for; other formats are not changed."""
    if not isinstance(image, JpegImagePlugin.JpegImageFile):
        return
    wanted = 2 * geometry.width, 2 * geometry.height
    image.draft(None, wanted[::-1] if _lies(image) else wanted)


def _share(image: Image.Image, geometry: Geometry | None) -> int:
    """Returns the bytes that decoding takes at its peak, estimated by the header; without a geometry at full size."""
    pixels = image.width * image.height
    decoded = pixels * DEPTHS.get(image.mode, 4)
    turned = _has_orientation(image) and _orientation(image) != 1
    plain = image.mode in {"RGB", "L"}
    after = 0 if plain else 24 * min(pixels, BAND)  # a band's copies, on the way to RGB
    if geometry is None:
        after += 0 if image.mode == "RGB" else 4 * pixels
    else:
        across, down = geometry.factors(*image.size)
        rows = image.height // down + 1
        if not plain or across * down > 1:
            after += 4 * rows * (image.width // across + 1)
        after += 4 * geometry.width * (rows + 2 * geometry.height)
    file = getattr(image, "fp", None)
    fetched = 2 * file.length if isinstance(file, RemoteFile) else 0  # twice, while its parts are joined
    return fetched + decoded + max(_while_decoding(image), decoded if turned else 0, after)


def _while_decoding(image: Image.Image) -> int:
    """Returns the bytes that its format's decoder needs besides the image."""
    pixels = image.width * image.height
    if isinstance(image, JpegImagePlugin.JpegImageFile) and image.info.get("progressive"):
        # All coefficients, two bytes each, of the full size, even if a smaller one is drafted.
        scale = image.decoderconfig[0] if image.decoderconfig else 1
        sampled = sum(across * down for _, across, down, _ in image.layer)
        full = max(across for _, across, _, _ in image.layer) * max(down for _, _, down, _ in image.layer)
        return round(2 * pixels * scale**2 * sampled / full)
    if isinstance(image, WebPImagePlugin.WebPImageFile):
        return 12 * pixels  # two canvases, and the first as a string of bytes
    if isinstance(image, TiffImagePlugin.TiffImageFile) and image.tile and image.tile[0][0] == "libtiff":
        strip = image.width * min(image.height, int(image.tag_v2.get(TiffImagePlugin.ROWSPERSTRIP, image.height)))
        return (pixels + strip) * DEPTHS.get(image.mode, 4)  # the file in memory, and a strip
    return 0


def _shrunk(image: Image.Image, path: Location | str, geometry: Geometry) -> Pixels:
    """Returns the image at the geometry's shape, as RGB."""
    if image.mode == "L":  # three times cheaper: resize first, repeat the channel afterwards
        return np.asarray(geometry.apply(image).convert("RGB"))
    _, down = factors = geometry.factors(*image.size)
    if image.mode == "RGB" or factors == (1, 1):
        return np.asarray(geometry.apply(_to_rgb(image, path)))
    shrunk = geometry.apply_to_bands(_bands(image, path, down), *image.size)
    return np.asarray(shrunk if shrunk.mode == "RGB" else shrunk.convert("RGB"))


def _to_rgb(image: Image.Image, path: Location | str) -> Image.Image:
    if image.mode == "RGB":
        return image
    whole = Image.new("RGB", image.size)
    for top, band in _bands(image, path, 1):
        whole.paste(band, (0, top))
    return whole


def _bands(image: Image.Image, path: Location | str, multiple: int) -> Iterator[tuple[int, Image.Image]]:
    """Yields the first row of each band, and the band as RGB or grey; its rows are a multiple, except in the last."""
    rows = max(1, BAND // image.width // multiple) * multiple
    for top in range(0, image.height, rows):
        yield top, _visible(image.crop((0, top, image.width, min(top + rows, image.height))), path)


def _visible(image: Image.Image, path: Location | str) -> Image.Image:
    """Converts any of Pillow's modes to RGB, or 16 bits to grey, by the rule at the top of this file."""
    if image.mode.startswith("I"):  # "I;16", "I;16B", and "I", which Pillow uses for some 16-bit files
        values = np.asarray(image).astype(np.int64)
        if values.size and not 0 <= values.min() <= values.max() <= 65535:
            raise ImageError(path, "has integers beyond 16 bits; save it with 8 or 16 bits a channel")
        return Image.fromarray(((values + 128) // 257).astype(np.uint8))
    if image.mode == "F":
        raise ImageError(path, "has floating-point values, whose range is unknown; save it with 8 or 16 bits a channel")
    if image.mode in {"RGBA", "LA", "PA", "RGBa", "La"} or "transparency" in image.info:
        visible = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")  # Pillow has no direct way
        return Image.alpha_composite(Image.new("RGBA", visible.size, (0, 0, 0, 255)), visible).convert("RGB")
    return image.convert("RGB")


def _frame(source: Pixels | Frame) -> Frame:
    return source if isinstance(source, Frame) else Frame(source)
