"""Refuses images that would take too long to read: a few megabytes of empty parts can take minutes.

Cameras and programs write a few dozen parts, or thousands of rows; the limits are far above that. The libraries that
read other formats do not have this problem.
"""

from __future__ import annotations

import re
import struct

from blemish.errors import ImageError

MOST_SEGMENTS = 2_000
"""Parts of a JPEG before its pixels, at most."""

MOST_SCANS = 100
"""Scans of a JPEG, at most."""

MOST_CHUNKS = 100_000
"""Chunks of a PNG, at most."""

MOST_TAGS, MOST_STRIPS = 4_096, 100_000
"""Entries of a TIFF, and strips or tiles of its pixels, at most."""

_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xDA)})
_TILE, _PIECES = (322, 323), frozenset({258, 273, 279, 324, 325})


def check_structure(image: bytes, most_pixels: int) -> None:
    """Checks the structure of a file, without decoding it.

    Raises:
        ImageError: it has too many parts, or parts that are larger than its pixels may be.
    """
    if image.startswith(b"\xff\xd8"):
        _check_scans(image, _start_of_pixels(image))
    elif image.startswith(b"\x89PNG\r\n\x1a\n"):
        _check_chunks(image)
    elif image.startswith((b"II", b"MM")):
        try:
            _check_tags(image, most_pixels)
        except struct.error:  # the file is cut short; the decoder reports it
            return


def _start_of_pixels(image: bytes) -> int:
    """Returns where the first scan of a JPEG begins, or where it is damaged."""
    at = 2
    for _ in range(MOST_SEGMENTS):
        if at + 4 > len(image) or image[at] != 0xFF or image[at + 1] == 0xDA:
            return at
        kind = image[at + 1]
        if kind == 0xFF:
            at += 1
        elif kind == 0 or kind in _WITHOUT_LENGTH:
            at += 2
        else:
            at += 2 + max(2, int.from_bytes(image[at + 2 : at + 4], "big"))
    raise _refused(f"over {MOST_SEGMENTS:,} parts before its pixels")


def _check_scans(image: bytes, start: int) -> None:
    if image.count(b"\xff\xda", start) <= MOST_SCANS:
        return
    scans = 0
    for found in _MARKER.finditer(image, start):
        if found[1] == b"\xd9":  # the end of the picture
            return
        scans += found[1] == b"\xda"
        if scans > MOST_SCANS:
            raise _refused(f"over {MOST_SCANS} passes over its pixels")


def _check_chunks(image: bytes) -> None:
    at = 8
    for _ in range(MOST_CHUNKS):
        if at + 8 > len(image):
            return
        at += 12 + int.from_bytes(image[at : at + 4], "big")
    raise _refused(f"over {MOST_CHUNKS:,} parts")


def _check_tags(image: bytes, most_pixels: int) -> None:
    """Checks the entries of a TIFF's first picture. If an entry is repeated, libraries differ; here all are checked."""
    order = "<" if image.startswith(b"II") else ">"
    is_big = struct.unpack_from(f"{order}H", image, 2)[0] == 43
    whole, number, size = ("Q", "Q", 20) if is_big else ("I", "H", 12)
    (start,) = struct.unpack_from(order + whole, image, 8 if is_big else 4)
    (count,) = struct.unpack_from(order + number, image, start)
    start += struct.calcsize(f"{order}{number}")
    if count > MOST_TAGS:
        raise _refused(f"over {MOST_TAGS:,} entries")
    sides = dict.fromkeys(_TILE, 0)
    for at in range(start, start + count * size, size):
        tag, kind, length = struct.unpack_from(f"{order}HH{whole}", image, at)
        if tag in _PIECES and length > MOST_STRIPS:
            raise _refused(f"its pixels in over {MOST_STRIPS:,} pieces")
        if tag in sides:
            form = {3: "H", 16: "Q"}.get(kind, "I")
            (side,) = struct.unpack_from(order + form, image, at + (12 if is_big else 8))
            sides[tag] = max(sides[tag], side)
    width, height = sides.values()
    if width * height > most_pixels:
        raise ImageError(
            "<bytes>",
            f"has tiles of {width}x{height}, more than the limit of {most_pixels:,} pixels; save it in strips",
        )


def _refused(what: str) -> ImageError:
    return ImageError("<bytes>", f"has {what}, which no camera writes; save it again from its source")
