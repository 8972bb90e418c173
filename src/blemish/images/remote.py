"""An image elsewhere: a file that fsspec reads, such as `s3://bucket/parts/000.png`."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from blemish.errors import ImageError, StorageError
from blemish.storage.remote import read_range, size_of

HEAD = 64 << 10
"""Bytes that are fetched first; the headers of nearly all images lie within them."""


@dataclass(frozen=True, order=True)
class Remote:
    """One image elsewhere. Its parts have the names that those of a `Path` have.

    Attributes:
        url: its address.
        size: in bytes, if it is known, as after a listing; otherwise it is looked up when the image is read.
    """

    url: str
    size: int | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return self.url

    @property
    def parts(self) -> tuple[str, ...]:
        """The protocol, the folders, and the name."""
        protocol, _, rest = self.url.partition("://")
        return (f"{protocol}://", *rest.split("/"))

    @property
    def name(self) -> str:
        return self.parts[-1]

    @property
    def stem(self) -> str:
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix

    def absolute(self) -> Remote:
        """Returns itself: an address is whole."""
        return self

    def length(self) -> int:
        """Returns the size in bytes. Raises `ImageError` if it is a folder, is not there, or cannot be reached."""
        if self.size is not None:
            return self.size
        with _faults_of(self):
            size = size_of(self.url)
        if size is None:
            raise ImageError(self, "is a folder, not an image")
        return size

    def content(self) -> bytes:
        """Returns the whole file. Raises `ImageError` as `length` does."""
        return RemoteFile(self, self.length()).read()


Location = Path | Remote
"""Where an image's file is: on this machine, or elsewhere."""


class RemoteFile(io.RawIOBase):
    """A remote image as an open file: its first bytes are fetched at once, the others when one of them is read.

    So its header costs one small request, and its pixels a second one if they are more than `HEAD` bytes.

    Raises:
        ImageError: it cannot be fetched, or is no longer as long as it was.

    Attributes:
        length: in bytes.
    """

    def __init__(self, image: Remote, length: int) -> None:
        self.image, self.length = image, length
        self._place = 0
        self._held = self._fetched(0, min(HEAD, length))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = max(0, offset + (0, self._place, self.length)[whence])
        return self._place

    def read(self, size: int | None = -1) -> bytes:
        end = self.length if size is None or size < 0 else min(self.length, self._place + size)
        if end > len(self._held):
            self._held += self._fetched(len(self._held), self.length)
        found = self._held[self._place : end]
        self._place = max(self._place, end)
        return found

    def readall(self) -> bytes:
        return self.read()

    def _fetched(self, start: int, end: int) -> bytes:
        with _faults_of(self.image):
            found = read_range(self.image.url, start, end)
        if len(found) != end - start:
            raise ImageError(self.image, f"was changed while it was read, {len(found):,} of {end - start:,} bytes")
        return found


@contextmanager
def _faults_of(image: Remote) -> Iterator[None]:
    """Turns a `StorageError` into an `ImageError`."""
    try:
        yield
    except StorageError as error:
        raise ImageError(image, str(error).removeprefix(f"{image.url}: ")) from None
