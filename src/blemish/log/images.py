"""Kept images, in a folder with a limit on bytes and on age; the oldest are removed first."""

from __future__ import annotations

import heapq
import os
import time
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Literal, get_args

from blemish.errors import SettingError, StorageError
from blemish.log.verdict import is_id
from blemish.storage.place import UNFINISHED, Place

Kind = Literal["image", "overlay", "thumbnail"]

LARGEST = 256 << 20
"""Bytes of an image that is read, at most."""

DAY = 86_400.0

SUFFIXES = {
    b"\x89PNG\r\n\x1a\n": ".png",
    b"\xff\xd8\xff": ".jpg",
    b"BM": ".bmp",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
    b"RIFF": ".webp",
}
"""The suffix for each beginning of a file, so that other programs open it; other content has no suffix."""

_ENDS = ("", *dict.fromkeys(SUFFIXES.values()))


class Images:
    """Images of verdicts, in files `ID.KIND.SUFFIX` such as `ID.image.png`, found by id and kind.

    Their age comes from the id, so copying a folder does not change it.

    Args:
        folder: of the files; made if it is absent.
        most_bytes: of all images together; the oldest are removed first.
        most_days: age of an image, at most; older ones are removed when the next one is added, or by `tidy`.

    Raises:
        SettingError: a limit is not above 0.
    """

    def __init__(self, folder: Path, most_bytes: int, most_days: float) -> None:
        if most_bytes <= 0 or not most_days > 0:
            raise SettingError(f"{most_bytes} bytes for {most_days:g} days keep no image; give more than 0 of both")
        self._folder, self._most_bytes, self._most_days = folder, most_bytes, most_days
        self._lock = Lock()
        self._sizes: dict[str, int] = {}
        with suppress(FileNotFoundError), os.scandir(folder) as entries:
            for entry in entries:
                with suppress(OSError):
                    if entry.name.startswith(".") and entry.name.endswith(UNFINISHED):
                        os.unlink(entry.path)  # a process was killed while it wrote this
                    elif _is_name(entry.name) and entry.is_file(follow_symlinks=False):
                        self._sizes[entry.name] = entry.stat().st_size
        self._oldest = list(self._sizes)
        heapq.heapify(self._oldest)
        self._size = sum(self._sizes.values())

    @property
    def size(self) -> int:
        """Bytes of all kept images."""
        return self._size

    def put(self, id: str, kind: Kind, content: bytes) -> None:
        """Keeps an image, whole or not at all; it replaces one with the same id and kind.

        Raises:
            SettingError: the id or the kind is not valid.
            StorageError: it cannot be written, or it alone is larger than the limit.
        """
        stem = _stem(id, kind)
        name = stem + next((suffix for start, suffix in SUFFIXES.items() if content.startswith(start)), "")
        if len(content) > min(self._most_bytes, LARGEST):
            raise StorageError(f"an image of {len(content):,} bytes is more than may be kept; allow more bytes")
        with self._lock:
            self._make_room(len(content) - self._sizes.get(name, 0), but=name)
            Place(str(self._folder)).write(name, content)
            if name not in self._sizes:
                heapq.heappush(self._oldest, name)
            self._size += len(content) - self._sizes.get(name, 0)
            self._sizes[name] = len(content)
            for other in (stem + end for end in _ENDS):
                if other != name and other in self._sizes:
                    self._oldest.remove(other)
                    heapq.heapify(self._oldest)
                    self._remove(other)

    def read(self, id: str, kind: Kind) -> bytes | None:
        """Returns the bytes of an image; `None` if it is not kept. Raises `SettingError` for an invalid id or kind."""
        stem = _stem(id, kind)
        for end in _ENDS:
            try:
                with (self._folder / f"{stem}{end}").open("rb") as file:
                    return file.read(LARGEST)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise StorageError(f"a kept image cannot be read ({error.strerror})") from None
        return None

    def tidy(self) -> None:
        """Removes images that are too old."""
        with self._lock:
            self._make_room(0)

    def _make_room(self, more: int, but: str = "") -> None:
        """Removes the oldest images until `more` bytes fit and none is too old; never the one being written."""
        first = f"{max(0, int(1000 * (time.time() - DAY * self._most_days))):012x}"
        kept = []
        while self._oldest and (self._oldest[0] < first or self._size + more > self._most_bytes):
            name = heapq.heappop(self._oldest)
            if name == but:
                kept.append(name)
                continue
            self._remove(name)
        for name in kept:
            heapq.heappush(self._oldest, name)

    def _remove(self, name: str) -> None:
        """Removes a file that was taken from the oldest; it is put back there if it cannot be removed."""
        try:
            (self._folder / name).unlink(missing_ok=True)
        except PermissionError as error:
            heapq.heappush(self._oldest, name)
            raise StorageError(f"a kept image cannot be removed ({error.strerror})") from None
        self._size -= self._sizes.pop(name)


def _stem(id: str, kind: str) -> str:
    if not is_id(id) or kind not in get_args(Kind):
        raise SettingError(f"no image has the name {id[:40]!r} and the kind {kind[:20]!r}; give the id of a verdict")
    return f"{id}.{kind}"


def _is_name(name: str) -> bool:
    id, _, rest = name.partition(".")
    kind, dot, suffix = rest.partition(".")
    return is_id(id) and kind in get_args(Kind) and f"{dot}{suffix}" in _ENDS
