"""Reads npy files, one frame at a time; nothing is unpickled, and sizes that the header states are checked."""

from __future__ import annotations

import ast
import os
import re
import stat
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from blemish.errors import ImageError
from blemish.images.files import MAX_PIXELS

MAX_HEADER = 4096
"""The longest header, in characters; it states the shape and the type."""

WHOLE = re.compile(r"[<>|=]?([iu][1248]|b1)")
"""Types of whole numbers, and of True and False."""

MAX_LABELS = 10_000_000
"""The largest number of labels in a file."""

ADVICE = "fetch the file again"


def read_labels(file: Path) -> NDArray[np.bool_]:
    """Returns for each number of a file whether it is not zero, (N,).

    Raises:
        ImageError: it is not an npy file with one row of whole numbers, is cut short, or holds too many.
    """
    with _opened(file) as content:
        shape, kind = _header(content, file)
        if len(shape) == 2 and 1 in shape:
            shape = (shape[0] * shape[1],)
        if len(shape) != 1:
            raise ImageError(file, f"has the shape {shape}; expected (frames,), a label for each frame; {ADVICE}")
        if shape[0] > MAX_LABELS:
            raise ImageError(file, f"says it has {shape[0]:,} labels, more than the limit of {MAX_LABELS:,}; {ADVICE}")
        return np.asarray(_values(content, file, shape[0], kind, 0) != 0)


def count_frames(file: Path) -> int:
    """Returns how many frames a file of masks has, by its header. Raises `ImageError` as `read_frame` does."""
    with _opened(file) as content:
        return _frames(content, file)[0][0]


def read_frame(file: Path, frame: int) -> NDArray[np.generic]:
    """Returns one frame (H, W) of a file of shape (frames, H, W); no other is read.

    Raises:
        ImageError: it is not an npy file of whole numbers with three dimensions, is cut short, has no such frame, or
            its frames are larger than an image may be.
    """
    with _opened(file) as content:
        (count, height, width), kind = _frames(content, file)
        if frame >= count:
            raise ImageError(file, f"has {count} frames, and frame {frame} was asked for, counted from 0; {ADVICE}")
        return _values(content, file, height * width, kind, frame).reshape(height, width)


def _frames(content: IO[bytes], file: Path) -> tuple[tuple[int, int, int], np.dtype[np.generic]]:
    shape, kind = _header(content, file)
    if len(shape) != 3:
        raise ImageError(file, f"has the shape {shape}; expected (frames, height, width); {ADVICE}")
    count, height, width = shape
    if height * width > MAX_PIXELS:
        raise ImageError(
            file, f"has frames of {height}x{width}, more than the limit of {MAX_PIXELS:,} pixels; {ADVICE}"
        )
    return (count, height, width), kind


def _opened(file: Path) -> IO[bytes]:
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            raise ImageError(file, f"is not a regular file; {ADVICE}")
        return file.open("rb")
    except OSError as error:
        raise ImageError(file, f"cannot be read ({error.strerror}); check the path") from None


def _header(content: IO[bytes], file: Path) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    """Returns the shape and the type; the file is then at its first number.

    A header is the text of a dictionary. numpy's own reader warns of some, and raises errors of many kinds.
    """
    start = content.read(8)
    wide = start[6:7] > b"\x01"
    length = int.from_bytes(content.read(4 if wide else 2), "little")
    if start[:6] != b"\x93NUMPY" or not 0 < length <= MAX_HEADER:
        raise ImageError(file, f"is not an npy file; {ADVICE}")
    try:
        entries = ast.literal_eval(content.read(length).decode("latin-1").strip())
        shape, kind, by_columns = (entries[key] for key in ("shape", "descr", "fortran_order"))
    except (ValueError, SyntaxError, TypeError, LookupError, MemoryError, RecursionError):
        raise ImageError(file, f"has a header that cannot be read; {ADVICE}") from None
    if not isinstance(kind, str) or not WHOLE.fullmatch(kind):
        raise ImageError(file, f"holds numbers of type {str(kind)[:40]!r}; expected whole ones, or True and False")
    if not isinstance(shape, tuple) or not all(isinstance(side, int) and side > 0 for side in shape):
        raise ImageError(file, f"has the shape {str(shape)[:40]}; expected sides of 1 or more; {ADVICE}")
    if by_columns and len(shape) > 1:
        raise ImageError(file, "is stored by columns; save it again with numpy.ascontiguousarray")
    return shape, np.dtype(kind)


def _values(content: IO[bytes], file: Path, count: int, kind: np.dtype[np.generic], block: int) -> NDArray[np.generic]:
    """Returns the numbers of one block of `count`."""
    size = count * kind.itemsize
    start = content.tell() + block * size
    held = os.fstat(content.fileno()).st_size
    if held < start + size:
        raise ImageError(file, f"is cut short, {held:,} bytes of {start + size:,} or more; {ADVICE}")
    content.seek(start)
    return np.frombuffer(content.read(size), kind)
