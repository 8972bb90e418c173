"""The format of an image, from its first bytes; the worker has checked before that it is an image."""

from __future__ import annotations

_STARTS = (
    (b"\xff\xd8", "jpeg"),
    (b"\x89PNG", "png"),
    (b"BM", "bmp"),
    (b"II", "tiff"),
    (b"MM", "tiff"),
    (b"RIFF", "webp"),
)

SHOWN = frozenset({"jpeg", "png"})
"""Formats that are sent as they are; others are converted to PNG."""


def format_of(image: bytes) -> str:
    """Returns `jpeg`, `png`, `bmp`, `tiff` or `webp`."""
    return next((name for start, name in _STARTS if image.startswith(start)), "png")
