"""One image file or array to uint8 RGB of the size a model asks for, safely; many of them in order, decoded ahead.

The rule by which every image becomes uint8 (H, W, 3):

- the first frame counts; EXIF rotation is applied;
- grey is repeated to three channels; palettes are looked up; CMYK and YCbCr are converted as Pillow does, without
  colour profiles; transparency is laid over black;
- 16-bit values v become round(v / 257), so that 65535 is white whatever the image holds. Floating point is refused:
  its range is not stated in the file.

Resizing is Pillow's bicubic, which widens its kernel when it shrinks (antialiased). Where at least twice the wanted
size remains, an image is first shrunk by a whole number: a JPEG while it is decoded, by two, four or eight, any other
by averaging. The result then differs from resizing at one go by at most 2 grey levels on average over an image
(`tests/test_images.py` holds this on real photographs).
"""

from __future__ import annotations

import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import (
    BmpImagePlugin,
    Image,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from blemish.array_files import read_member
from blemish.errors import ImageError, SettingError, SourceError
from blemish.tiling import LARGEST, SMALLEST, Tiling

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
# Named modules, so that no decoder but these five is ever loaded, and none of them late in a thread.
FORMATS = tuple(
    plugin.format
    for plugin in (
        JpegImagePlugin.JpegImageFile,
        PngImagePlugin.PngImageFile,
        BmpImagePlugin.BmpImageFile,
        TiffImagePlugin.TiffImageFile,
        WebPImagePlugin.WebPImageFile,
    )
)
MAX_PIXELS = 160_000_000  # 480 MB once decoded; below the limit that Pillow itself enforces
MAX_BYTES = 1 << 30

Pixels = NDArray[np.uint8]
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Geometry:
    """The way from an image of any size to the model's input: resize to `height` × `width`, then centre crop.

    With `tile`, an image is a photograph, each of whose tiles goes this way by itself.

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
            Tiling(self.tile, self.overlap)  # which is in range
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
            raise SettingError("an overlap is one of tiles; give --tile too")
        sides = str(size).lower().split("x")
        if len(sides) > 2 or not all(side.strip().isdecimal() for side in sides):
            raise SettingError(f"size {size!r} is not a size; give one number (256) or height x width (240x320)")
        numbers = [int(side) for side in sides]
        shared = overlap if overlap is not None else (tile or 0) // 4
        return cls(numbers[0], numbers[-1], crop, tile, shared)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of what the model sees."""
        return (self.crop, self.crop) if self.crop else (self.height, self.width)

    @property
    def margins(self) -> tuple[int, int]:
        """Rows and columns that the crop takes away above and at the left."""
        return (0, 0) if self.crop is None else ((self.height - self.crop) // 2, (self.width - self.crop) // 2)

    def apply(self, image: Image.Image, resample: Image.Resampling = Image.Resampling.BICUBIC) -> Image.Image:
        """`image` resized and cropped."""
        if image.size != (self.width, self.height):
            image = image.resize((self.width, self.height), resample, reducing_gap=2.0)
        if self.crop is None:
            return image
        top, left = self.margins
        return image.crop((left, top, left + self.crop, top + self.crop))


def read_image(source: Path | str | Pixels, geometry: Geometry) -> Pixels:
    """The image as uint8 RGB (H, W, 3) of the geometry's shape.

    Args:
        source: a file, or an array: uint8 (H, W), (H, W, 3) or (H, W, 4), or uint16 (H, W).

    Raises:
        ImageError: the file is missing, empty, truncated, too large, or no image of a known format; or the array has
            another shape or type.
    """
    if isinstance(source, np.ndarray):
        image = _to_rgb(_from_array(source), "<array>")
        return np.asarray(geometry.apply(image))
    path = Path(source)
    with _opened(path) as image:
        try:
            longest = 2 * max(geometry.height, geometry.width)
            image.draft(None, (longest, longest))  # a no-op but for JPEG; never below the size asked for
            ImageOps.exif_transpose(image, in_place=True)
            if image.mode == "L":  # three times cheaper: resize first, repeat the channel afterwards
                return np.asarray(geometry.apply(image).convert("RGB"))
            return np.asarray(geometry.apply(_to_rgb(image, path)))
        except _DECODING_ERRORS as error:
            raise _damaged(path, error) from error


def read_whole(source: Path | Pixels) -> Image.Image:
    """The image at its own size, decoded, upright and RGB. Raises `ImageError` as `read_image` does."""
    if isinstance(source, np.ndarray):
        return _to_rgb(_from_array(source), "<array>")
    with _opened(source) as image:
        try:
            ImageOps.exif_transpose(image, in_place=True)
            image.load()
            return _to_rgb(image, source)
        except _DECODING_ERRORS as error:
            raise _damaged(source, error) from error


def read_size(path: Path) -> tuple[int, int]:
    """Height and width of the upright image, from its header alone. Raises `ImageError` as `read_image` does."""
    with _opened(path) as image:
        turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
        return (image.width, image.height) if turned else (image.height, image.width)


def read_format(path: Path) -> str:
    """What the content is, whatever the name says: `JPEG`, `PNG`, `BMP`, `TIFF` or `WEBP`. Raises as `read_image`."""
    with _opened(path) as image:
        return str(image.format)


def read_mask(path: Path, image_path: Path, geometry: Geometry | None = None) -> NDArray[np.bool_]:
    """The ground truth of an image, (H, W): True where the defect is; at the model's input, or else at its own size.

    A mask with two values or a palette: what is not zero counts. A mask with grey edges: what lies above half of its
    maximum. Resized by nearest neighbour.

    Raises:
        ImageError: the mask is unreadable, or its size differs from the image's.
    """
    with _opened(path) as opened:
        try:
            mask = ImageOps.exif_transpose(opened)
            values = np.asarray(mask if mask.mode in {"1", "P", "I;16", "I;16B", "I"} else mask.convert("L"))
        except _DECODING_ERRORS as error:
            raise _damaged(path, error) from error
    expected = read_size(image_path)
    if values.shape != expected:
        raise ImageError(
            path,
            f"the mask is {values.shape[0]}x{values.shape[1]} and its image {image_path.name} is "
            f"{expected[0]}x{expected[1]}; save the mask at the size of its image",
        )
    values = values.astype(np.int64)
    marked = values > 0 if opened.mode == "P" else 2 * values > values.max()
    if geometry is None:
        return marked
    resized = geometry.apply(Image.fromarray(marked.astype(np.uint8)), Image.Resampling.NEAREST)
    return np.asarray(resized) > 0


def decode_ahead(read: Callable[[T], R], items: Iterable[T], *, ahead: int = 32) -> Iterator[R | ImageError]:
    """`read` over `items` in threads, in order, never more than `ahead` results in memory.

    An `ImageError` is handed on in the place of its result; any other exception ends the iteration.
    """
    threads = min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        pending: deque[Future[R | ImageError]] = deque()
        try:
            for item in items:
                if len(pending) >= ahead:
                    yield pending.popleft().result()
                pending.append(pool.submit(_caught, read, item))
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def _caught(read: Callable[[T], R], item: T) -> R | ImageError:
    try:
        return read(item)
    except ImageError as error:
        return error


_DECODING_ERRORS = (OSError, ValueError, SyntaxError, EOFError, IndexError, MemoryError, Image.DecompressionBombError)


def _damaged(path: Path, error: BaseException) -> ImageError:
    reason = str(error).strip() or type(error).__name__
    return ImageError(path, f"cannot be decoded ({reason}); save it again from its source, or remove it")


def _opened(path: Path) -> Image.Image:
    """The file's header, checked against every limit before a pixel is decoded."""
    try:
        array = read_member(path)
        if array is not None:
            return Image.fromarray(array)
        size = path.stat().st_size
        if size == 0:
            raise ImageError(path, "is empty (zero bytes); copy it again, or remove it")
        if size > MAX_BYTES:
            raise ImageError(path, f"has {size:,} bytes, more than the limit of {MAX_BYTES:,}; remove it")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of large images; the limit below is ours
            image = Image.open(path, formats=FORMATS)
    except UnidentifiedImageError:
        raise ImageError(
            path, "is no image of a known format (JPEG, PNG, BMP, TIFF, WebP), whatever its name says; remove it"
        ) from None
    except SourceError as error:
        raise ImageError(path, str(error).removeprefix(f"{path}: ")) from None
    except (FileNotFoundError, NotADirectoryError):
        if os.path.islink(path):
            raise ImageError(path, "is a link to what does not exist; mend the link, or remove it") from None
        raise ImageError(path, "does not exist; check the path") from None
    except IsADirectoryError:
        raise ImageError(path, "is a folder, not an image") from None
    except PermissionError:
        what = "is a folder that may not be read" if os.path.isdir(path) else "may not be read"
        raise ImageError(path, f"{what}; check its permissions") from None
    except _DECODING_ERRORS as error:
        if isinstance(error, Image.DecompressionBombError):
            raise ImageError(path, f"has more than the limit of {MAX_PIXELS:,} pixels; crop or shrink it") from None
        raise _damaged(path, error) from error
    if image.width * image.height > MAX_PIXELS:
        pixels = f"{image.width}x{image.height}"
        image.close()
        raise ImageError(path, f"is {pixels}, more than the limit of {MAX_PIXELS:,} pixels; crop or shrink it")
    return image


def _to_rgb(image: Image.Image, path: Path | str) -> Image.Image:
    """Any of Pillow's modes to RGB by the rule at the top of this file."""
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I"):  # "I;16", "I;16B", and "I", which Pillow uses for some 16-bit files
        values = np.asarray(image).astype(np.int64)
        if values.size and not 0 <= values.min() <= values.max() <= 65535:
            raise ImageError(path, "has integers beyond 16 bits; save it with 8 or 16 bits a channel")
        return Image.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ImageError(path, "has floating-point values, whose range is unknown; save it with 8 or 16 bits a channel")
    if image.mode in {"RGBA", "LA", "PA", "RGBa", "La"} or "transparency" in image.info:
        visible = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", visible.size, (0, 0, 0, 255)), visible).convert("RGB")
    return image.convert("RGB")


def _from_array(array: NDArray[np.generic]) -> Image.Image:
    """A uint8 or uint16 array as an image of Pillow's."""
    grey = array.ndim == 2 and array.dtype in (np.dtype(np.uint8), np.dtype(np.uint16))
    colour = array.ndim == 3 and array.shape[2] in (3, 4) and array.dtype == np.uint8
    if not (grey or colour) or 0 in array.shape:
        raise ImageError(
            "<array>",
            f"has shape {array.shape} and type {array.dtype}; expected uint8 (H, W), (H, W, 3) or (H, W, 4), "
            "or uint16 (H, W)",
        )
    if array.dtype == np.uint16:
        return Image.fromarray(((array.astype(np.int64) + 128) // 257).astype(np.uint8))
    return Image.fromarray(np.ascontiguousarray(array))
