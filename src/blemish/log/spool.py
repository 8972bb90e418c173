"""Rows on the disk that wait for the database: files of JSON lines in a folder that only this process writes.

The system releases the lock on the folder when the process ends in any way; the next process then takes over its files.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from threading import RLock
from typing import Any

from blemish.storage.scratch import locked

MOST_BYTES = 1 << 30
"""Bytes of a spool, at most."""

FILE_BYTES = 4 << 20
"""Approximate bytes of one of its files."""

LONGEST_LINE = 1 << 20
"""Bytes of a line, at most."""

ENDING = ".jsonl"
_NAME = re.compile(r"[0-9a-f]{16}")


class SpoolFullError(Exception):
    """The spool has no room for more rows."""


@dataclass
class _File:
    path: Path
    count: int
    size: int


class Spool:
    """Rows in order of arrival. A row is in a file before `append` returns; `sync` flushes it to the disk.

    Args:
        parent: a folder that several processes may share; each has its own folder in it.
        most_bytes: bytes of the rows, at most.

    Attributes:
        count: how many rows wait; reading it never waits for the disk.
        lost: how many rows were in files that were removed, or that cannot be read.
    """

    def __init__(self, parent: Path, *, most_bytes: int = MOST_BYTES) -> None:
        self._parent, self._most = parent, most_bytes
        self._lock = RLock()
        self._folder: Path | None = None
        self._held: int | None = None
        self._files: deque[_File] = deque()
        self._open: FileIO | None = None
        self._number = 0
        self.count = self.lost = 0
        with suppress(OSError):
            self._take_over()

    def append(self, rows: Iterable[dict[str, Any]]) -> None:
        """Writes rows to the end.

        Raises:
            SpoolFullError: they do not fit.
            OSError: they cannot be written.
        """
        lines = [json.dumps(row, allow_nan=False).encode() + b"\n" for row in rows]
        content = b"".join(lines)
        with self._lock:
            if sum(file.size for file in self._files) + len(content) > self._most:
                raise SpoolFullError
            self._forget_absent()
            if self._open is None:
                self._begin()
            file, opened = self._files[-1], self._open
            assert opened is not None  # noqa: S101
            try:
                left = memoryview(content)
                while left:
                    left = left[opened.write(left) :]
            except OSError:
                with suppress(OSError):
                    opened.truncate(file.size)  # so that no row is there in part or twice
                    opened.seek(file.size)
                raise
            file.size += len(content)
            file.count += len(lines)
            self.count += len(lines)
            if file.size >= FILE_BYTES:
                self._seal()

    def sync(self) -> None:
        """Flushes the written rows to the disk, so that they outlast a power failure. Raises `OSError`."""
        with self._lock:
            if self._open is not None:
                os.fsync(self._open.fileno())

    def oldest(self) -> Path | None:
        """Returns the oldest file, which is complete; `None` if there is none."""
        with self._lock:
            self._forget_absent()
            if self._open is not None and len(self._files) == 1:
                self._seal()
            return self._files[0].path if self._files else None

    def remove_oldest(self) -> None:
        """Removes the oldest file, whose rows are in the database."""
        with self._lock:
            file = self._files.popleft()
            self.count -= file.count
        with suppress(OSError):
            file.path.unlink()

    def leave_oldest(self) -> None:
        """Skips the oldest file, which cannot be read now; the next process tries it again."""
        with self._lock:
            file = self._files.popleft()
            self.count -= file.count
            self.lost += file.count

    def close(self) -> None:
        """Flushes all rows to the disk and releases the folder; an empty folder is removed."""
        with self._lock:
            if self._open is not None:
                with suppress(OSError):
                    self._seal()
            if self._folder is not None and not self._files:
                with suppress(OSError):
                    self._folder.rmdir()
            self._let_go()

    def _let_go(self) -> None:
        if self._held is not None:
            os.close(self._held)
        self._folder = self._held = None

    def _forget_absent(self) -> None:
        """Forgets files that were removed from outside, even the one that is being written."""
        for file in [file for file in (*self._files,) if not file.path.exists()]:
            if self._open is not None and file is self._files[-1]:
                self._open.close()
                self._open = None
            self._files.remove(file)
            self.count -= file.count
            self.lost += file.count

    def _begin(self) -> None:
        """Opens a new file."""
        folder = self._own_folder()
        self._number += 1
        path = folder / f"{self._number:012d}{ENDING}"
        self._open = FileIO(path, "x")
        self._files.append(_File(path, 0, 0))

    def _seal(self) -> None:
        """Closes the file that is being written."""
        opened, self._open = self._open, None
        assert opened is not None  # noqa: S101
        with opened:
            os.fsync(opened.fileno())

    def _own_folder(self) -> Path:
        """Returns the folder of this process, locked; it is made if it is absent."""
        if self._folder is not None and self._folder.is_dir():
            return self._folder
        self._let_go()
        while True:
            folder = self._parent / secrets.token_hex(8)
            folder.mkdir(0o700, parents=True)
            held = locked(folder, wait=True)
            if folder.is_dir():  # false if another process took it over before it was locked
                self._folder, self._held = folder, held
                return folder
            if held is not None:
                os.close(held)

    def _take_over(self) -> None:
        """Moves the files of ended processes to the folder of this one."""
        with os.scandir(self._parent) as entries:
            left = [entry for entry in entries if _NAME.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)]
        for entry in sorted(left, key=lambda entry: entry.stat().st_mtime_ns):
            with suppress(OSError):
                self._take(Path(entry.path))

    def _take(self, folder: Path) -> None:
        held = locked(folder)
        if held is None:
            return
        try:
            for path in sorted(folder.glob(f"*{ENDING}")):
                own = self._own_folder()
                self._number += 1
                goal = own / f"{self._number:012d}{ENDING}"
                path.rename(goal)
                self._files.append(_File(goal, _lines(goal), goal.stat().st_size))
                self.count += self._files[-1].count
            folder.rmdir()
        finally:
            os.close(held)


def read_spooled(path: Path) -> Iterator[dict[str, Any] | None]:
    """Yields the rows in a file; `None` for a damaged line, such as the last one after a power failure."""
    with path.open("rb") as file:
        while line := file.readline(LONGEST_LINE):
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            yield row if isinstance(row, dict) else None


def _lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
