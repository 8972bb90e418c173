"""Reads the size of an image from its header, without decoding it."""

from __future__ import annotations

from PIL import PngImagePlugin

from blemish.errors import ImageError
from blemish.images import read_size
from blemish.images.files import opened
from blemish.service.structure import check_structure

PNG_START = 8
LATE = (b"eXIf", b"tEXt", b"zTXt", b"iTXt")
"""Chunks of a PNG that may hold a rotation."""


def check_size(image: bytes, most_pixels: int) -> tuple[int, int]:
    """Returns height and width of the upright image.

    Raises:
        ImageError: it has too many pixels or parts, is empty, or is not an image of a known format.
    """
    check_structure(image, most_pixels)
    with opened(image) as found:
        stored = found.height, found.width
        is_plain = isinstance(found, PngImagePlugin.PngImageFile) and not _has_text(image)
    if stored[0] * stored[1] > most_pixels:
        pixels = f"{stored[1]}x{stored[0]}"
        raise ImageError("<bytes>", f"is {pixels}, more than the limit of {most_pixels:,} pixels; crop or shrink it")
    return stored if is_plain else read_size(image)  # a PNG with a rotation behind its pixels must be decoded


def _has_text(image: bytes) -> bool:
    """Returns whether a PNG has a chunk that may hold a rotation."""
    start = PNG_START
    while start + 8 <= len(image):
        kind = image[start + 4 : start + 8]
        if kind in LATE:
            return True
        start += 12 + int.from_bytes(image[start : start + 4], "big")
    return False
