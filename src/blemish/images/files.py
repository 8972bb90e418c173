"""Opens files as images of five formats, and refuses all others before a pixel is decoded.

Pillow's `Image.open` is not used: it tries plugins for other formats, and it warns about large images, which could only
be silenced for the whole process.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO, cast

from PIL import BmpImagePlugin, Image, ImageFile, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

from blemish.errors import ImageError, SourceError
from blemish.images.array_files import read_member
from blemish.images.remote import Location, Remote, RemoteFile

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
MAX_PIXELS = 160_000_000  # 640 MB once decoded; below the limit that Pillow itself enforces
MAX_BYTES = 1 << 30

DECODING_ERRORS = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    IndexError,
    MemoryError,
    struct.error,
    Image.DecompressionBombError,
)
"""What Pillow raises for a damaged file."""


class _Tiff(TiffImagePlugin.TiffImageFile):
    """A TIFF that does not warn of its size when it is decoded, which `opened` has checked."""

    def load_prepare(self) -> None:
        if self._im is None and hasattr(self, "_tile_size"):
            self.im = Image.core.new(self.mode, self._tile_size)  # type: ignore[attr-defined]  # Pillow's, not exported
        super().load_prepare()


_PLUGINS: tuple[type[ImageFile.ImageFile], ...] = (
    JpegImagePlugin.JpegImageFile,  # in a file with several pictures the first, which is an ordinary JPEG
    PngImagePlugin.PngImageFile,
    BmpImagePlugin.BmpImageFile,
    _Tiff,
    WebPImagePlugin.WebPImageFile,
)


@contextmanager
def opened(source: Location | bytes) -> Iterator[Image.Image]:
    """Yields an image, not decoded yet, from a file or a file's bytes; every limit is checked first.

    Raises:
        ImageError: it is missing, not a regular file, empty, too large, cannot be fetched, or is not an image of a
            known format.
    """
    name = "<bytes>" if isinstance(source, bytes) else source
    if isinstance(source, Path):
        try:
            array = read_member(source)
        except SourceError as error:
            raise ImageError(source, str(error).removeprefix(f"{source}: ")) from None
        if array is not None:
            yield Image.fromarray(array)
            return
    with _content(source) as file:
        image = _identified(file, name)
        check_pixels(name, image.width, image.height)
        yield image


def check_pixels(name: object, width: int, height: int) -> None:
    """Raises `ImageError` if an image of this size has too many pixels."""
    if width * height > MAX_PIXELS:
        raise ImageError(name, f"is {width}x{height}, more than the limit of {MAX_PIXELS:,} pixels; crop or shrink it")


def damaged(path: object, error: BaseException) -> ImageError:
    """Returns the error for a file that cannot be decoded."""
    reason = str(error).strip() or type(error).__name__
    return ImageError(path, f"cannot be decoded ({reason}); save it again from its source, or remove it")


def _content(source: Location | bytes) -> IO[bytes]:
    """Opens what an image is read from."""
    if isinstance(source, bytes):
        return _memory(source)
    return _elsewhere(source) if isinstance(source, Remote) else _file(source)


def _elsewhere(image: Remote) -> IO[bytes]:
    """Opens an image elsewhere, of which only the first bytes are fetched yet."""
    length = image.length()
    _check_length(image, length)
    return cast(IO[bytes], RemoteFile(image, length))


def _file(path: Path) -> IO[bytes]:
    """Opens a file; one that is not regular, such as a pipe, is refused first, since opening it might wait forever."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            with os.scandir(path):  # raises if it may not be read
                raise ImageError(path, "is a folder, not an image")
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(path, "is not a regular file; remove it")
        _check_length(path, status.st_size)
        return path.open("rb")
    except (FileNotFoundError, NotADirectoryError):
        if path.is_symlink():
            raise ImageError(path, "is a broken link; fix it, or remove it") from None
        raise ImageError(path, "does not exist; check the path") from None
    except PermissionError:
        what = "is a folder that may not be read" if os.path.isdir(path) else "may not be read"
        raise ImageError(path, f"{what}; check its permissions") from None
    except (OSError, ValueError) as error:
        raise damaged(path, error) from error


def _memory(content: bytes) -> IO[bytes]:
    """Returns the bytes as an open file."""
    _check_length("<bytes>", len(content))
    return BytesIO(content)


def _check_length(name: object, length: int) -> None:
    if length == 0:
        raise ImageError(name, "is empty (zero bytes); copy it again, or remove it")
    if length > MAX_BYTES:
        raise ImageError(name, f"has {length:,} bytes, more than the limit of {MAX_BYTES:,}; remove it")


def _identified(file: IO[bytes], path: object) -> ImageFile.ImageFile:
    """Returns the image, whose format is recognised by its first bytes and its header."""
    try:
        start = file.read(16)
        for plugin in _PLUGINS:
            accepts = Image.OPEN[str(plugin.format)][1]
            if accepts is None or accepts(start) is not True:
                continue
            file.seek(0)
            try:
                return plugin(file, str(path))
            except (SyntaxError, IndexError, TypeError, KeyError, EOFError, struct.error):
                continue
    except Image.DecompressionBombError:
        raise ImageError(path, f"has more than the limit of {MAX_PIXELS:,} pixels; crop or shrink it") from None
    except DECODING_ERRORS as error:
        raise damaged(path, error) from error
    raise ImageError(
        path, "is not an image of a known format (JPEG, PNG, BMP, TIFF, WebP), whatever its name says; remove it"
    )
