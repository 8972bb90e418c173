"""Reads files that hold many images: npz, idx (also gzipped), and CIFAR's batches; nothing is unpickled.

Each image has a path of its own, as if its file were a folder: `mnist.npz/x_train/17`, `data_batch_1/17`,
`train-images-idx3-ubyte.gz/17`.
"""

from __future__ import annotations

import gzip
import math
import os
import pickletools
import struct
import zipfile
import zlib
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blemish.errors import SourceError, number_of
from blemish.images.remote import Location, Remote

LARGEST = 1 << 30
"""Bytes of an array, at most."""

IDX_BYTES = 0x08
"""The type of idx files of unsigned bytes."""

WHOLE_NUMBERS = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1"}
"""Instructions of a pickle that stand for a whole number."""

DAMAGED = (
    OSError,
    ValueError,
    LookupError,
    EOFError,
    MemoryError,  # a header that promises more than there is
    OverflowError,
    RuntimeError,  # a member that is encrypted, or compressed in an unknown way
    SyntaxError,
    TypeError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
"""What the readers of these formats raise for damaged files."""

CIFAR = (3, 32, 32)
"""An image of CIFAR's: colours, rows, columns."""


def read_member(path: Location) -> NDArray[np.uint8] | None:
    """Returns the image (H, W) or (H, W, 3) at such a path; `None` if the path is not one of these.

    Raises:
        SourceError: the file is damaged, or holds no such image.
    """
    held = _held(path)
    if held is None:
        return None
    images = read_images(*held)
    if int(path.name) >= len(images):
        raise SourceError(f"{path}: the file has {number_of(len(images), 'image')}, counted from 0")
    image: NDArray[np.uint8] = images[int(path.name)]
    return image


def file_of(path: Location) -> Location:
    """Returns the file that holds the image of such a path; the path itself if it is not one of these."""
    held = _held(path)
    return path if held is None else held[0]


def _held(path: Location) -> tuple[Path, str] | None:
    """Returns the file and the name of the array in it; `None` if the path is not one of these."""
    # By `os.path`, whose functions do not raise where a folder may not be read.
    if isinstance(path, Remote) or not path.name.isdecimal() or os.path.exists(path):
        return None
    if os.path.isfile(path.parent):
        return path.parent, ""
    file = path.parent.parent
    return (file, path.parent.name) if os.path.isfile(file) else None


def read_images(file: Path, array: str = "") -> NDArray[np.uint8]:
    """Returns all images of a file, (N, H, W) or (N, H, W, 3).

    Args:
        file: npz, idx, or one of CIFAR's batches.
        array: its name in an npz.

    Raises:
        SourceError: the file is damaged, too large, or of another kind.
    """
    images = _read(file, array, file.stat().st_mtime_ns)
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] != 3):
        raise SourceError(f"{file}: {array} has {images.dtype} {images.shape}, not uint8 (N, H, W) or (N, H, W, 3)")
    if not images.size:
        raise SourceError(f"{file}: {array or 'the file'} holds no images, {images.shape}; fetch the file again")
    return images.astype(np.uint8, copy=False)


def read_labels(file: Path, array: str = "") -> NDArray[np.int64]:
    """Returns the labels of all images of a file, (N,). Raises `SourceError` as `read_images` does."""
    if _is_pickled(file):
        return _cifar(file)[1]
    labels = _read(file, array, file.stat().st_mtime_ns)
    if labels.dtype.kind not in "iu":
        raise SourceError(f"{file}: {array} has {labels.dtype}, not whole numbers, for labels")
    return labels.astype(np.int64).reshape(-1)


@lru_cache(maxsize=4)
def _read(file: Path, array: str, _changed: int) -> NDArray[np.generic]:
    if file.suffix == ".npz":
        return _npz(file, array)
    if _is_pickled(file):
        return _cifar(file)[0]
    return _idx(file)


def _npz(file: Path, array: str) -> NDArray[np.generic]:
    try:
        with zipfile.ZipFile(file) as archive:
            size = archive.getinfo(f"{array}.npy").file_size
        if size > LARGEST:
            raise SourceError(f"{file}: {array} has {size:,} bytes, more than the limit of {LARGEST:,}")
        with np.load(file, allow_pickle=False) as arrays:
            return np.asarray(arrays[array])
    except DAMAGED as error:
        raise SourceError(
            f"{file}: {array or 'the array'} cannot be read ({_reason(error)}); fetch the file again"
        ) from None


def _idx(file: Path) -> NDArray[np.generic]:
    """Reads LeCun's format: two zero bytes, the type, the number of sides, each side as four bytes, the values."""
    opened = gzip.open if file.suffix == ".gz" else open
    try:
        with opened(file, "rb") as content:
            zeros, kind, sides = struct.unpack(">HBB", content.read(4))
            if zeros or kind != IDX_BYTES or sides not in (1, 3):
                raise SourceError(f"{file}: is not an idx file of bytes; give npz, idx, or CIFAR's batches")
            shape = struct.unpack(f">{sides}I", content.read(4 * sides))
            size = math.prod(shape)
            if size > LARGEST:
                raise SourceError(f"{file}: says it has {size:,} bytes, more than the limit of {LARGEST:,}")
            values = content.read(size)
    except DAMAGED as error:
        raise SourceError(f"{file}: cannot be read ({_reason(error)}); fetch the file again") from None
    if len(values) != size:
        raise SourceError(f"{file}: is cut short, {len(values):,} of {size:,} bytes; fetch the file again")
    return np.frombuffer(values, np.uint8).reshape(shape)


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _is_pickled(file: Path) -> bool:
    with file.open("rb") as content:
        return content.read(1) == b"\x80"


def _cifar(file: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Returns images and labels of a batch: its longest string, and the numbers that follow the word `labels`.

    The pickle's instructions are read but not executed.
    """
    if file.stat().st_size > LARGEST:
        raise SourceError(f"{file}: has more than the limit of {LARGEST:,} bytes")
    pixels, labels, listing = b"", list[int](), False
    try:
        for instruction, value, _ in pickletools.genops(file.read_bytes()):
            text = value.encode("latin-1") if isinstance(value, str) else value
            if isinstance(text, (bytes, bytearray)):
                listing = text == b"labels"
                if len(text) > len(pixels) and len(text) % math.prod(CIFAR) == 0:
                    pixels = bytes(text)
            elif listing and isinstance(value, int) and instruction.name in WHOLE_NUMBERS:
                labels.append(value)
    except DAMAGED as error:
        raise SourceError(f"{file}: cannot be read ({_reason(error)}); fetch the file again") from None
    images = np.frombuffer(pixels, np.uint8).reshape(-1, *CIFAR).transpose(0, 2, 3, 1)
    if not len(images):
        raise SourceError(f"{file}: holds no images of 32x32; give npz, idx, or CIFAR-10's batches")
    return images, np.array(labels, np.int64)
