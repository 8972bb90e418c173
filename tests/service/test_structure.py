"""Files of few bytes that would take minutes or gigabytes to read are refused before they are read."""

from __future__ import annotations

import io
import struct
import zlib
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image

from blemish.errors import ImageError
from blemish.service.sizes import check_size
from blemish.service.structure import MOST_CHUNKS, MOST_SCANS, MOST_SEGMENTS, MOST_STRIPS, check_structure

PIXELS = 64_000_000
NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)


def saved(kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(NOISE).save(buffer, kind, **options)
    return buffer.getvalue()


JPEG, PNG = saved("JPEG"), saved("PNG")


def chunk(kind: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def scans(count: int) -> bytes:
    """A JPEG whose last pass over the pixels is there more often."""
    whole = saved("JPEG", progressive=True)
    last = whole.rindex(b"\xff\xda")
    return whole[:last] + whole[last:-2] * count + whole[-2:]


def tiff(order: str, big: bool, *tags: tuple[int, int, int, int]) -> bytes:
    """A TIFF of these entries: a tag, its type, how many values, and the value."""
    whole, number = ("Q", "Q") if big else ("I", "H")
    head = b"II" if order == "<" else b"MM"
    head += struct.pack(f"{order}HHHQ", 43, 8, 0, 16) if big else struct.pack(f"{order}HI", 42, 8)
    entries = b"".join(
        struct.pack(f"{order}HH{whole}", tag, kind, count)
        + struct.pack(order + {3: "H", 4: "I", 16: "Q"}[kind], value).ljust(8 if big else 4, b"\0")
        for tag, kind, count, value in tags
    )
    return head + struct.pack(order + number, len(tags)) + entries


BOMBS = {
    "empty comments": JPEG[:2] + b"\xff\xfe\0\2" * MOST_SEGMENTS + JPEG[2:],
    "lengths below any": JPEG[:2] + b"\xff\xe1\0\0" * MOST_SEGMENTS + JPEG[2:],
    "filling": JPEG[:2] + b"\xff" * 4000 + JPEG[2:],
    "marks without a length": JPEG[:2] + b"\xff\xd0" * MOST_SEGMENTS + JPEG[2:],
    "zeros": JPEG[:2] + b"\xff\0" * MOST_SEGMENTS + JPEG[2:],
    "passes": scans(MOST_SCANS),
    "pieces of nothing": PNG[:33] + chunk(b"IDAT") * MOST_CHUNKS + PNG[33:],
    "tiles": tiff("<", False, (322, 4, 1, 32768), (323, 4, 1, 32768)),
    "tiles the other way round": tiff(">", False, (322, 3, 1, 32768), (323, 3, 1, 32768)),
    "a large tile before a small one": tiff("<", False, (322, 4, 1, 2**31), (322, 4, 1, 16), (323, 3, 1, 16)),
    "a small tile before a large one": tiff("<", False, (322, 4, 1, 16), (322, 4, 1, 2**31), (323, 3, 1, 16)),
    "tiles in a large file": tiff("<", True, (322, 16, 1, 2**40), (323, 3, 1, 16)),
    "strips": tiff("<", False, (273, 4, MOST_STRIPS + 1, 8)),
    "lengths of strips": tiff(">", True, (279, 16, 2**40, 8)),
    "entries": tiff("<", False, *[(256, 4, 1, 1)] * 5000),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_file_that_costs_more_than_its_pixels_is_refused(kind: str) -> None:
    with pytest.raises(ImageError, match=r"has .*save it"):
        check_size(BOMBS[kind], PIXELS)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True, "comment": b"a" * 60_000}),
        ("PNG", {"compress_level": 0}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_deflate", "big_tiff": True}),
        ("BMP", {}),
        ("WEBP", {}),
    ],
)
def test_what_programs_write_passes(kind: str, options: dict[str, object]) -> None:
    assert check_size(saved(kind, **options), PIXELS) == (64, 64)


def test_what_comes_behind_a_jpeg_does_not_count() -> None:
    moving = JPEG + b"\xff\xda" * 1000  # a phone puts a film there
    assert check_size(moving, PIXELS) == (64, 64)


def test_a_file_cut_anywhere_is_refused_or_left_to_who_decodes_it() -> None:
    for bomb in BOMBS.values():
        for length in range(0, 200, 3):
            with suppress(ImageError):
                check_structure(bomb[:length], PIXELS)
