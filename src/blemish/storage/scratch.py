"""Temporary folders that are removed when the process that made them ends, however it ends.

The process that makes a folder holds a lock on it. The system drops the lock when the process ends, even when it is
killed. The next process that makes a folder in the same place removes those without a lock. It removes only folders
that this module made: the name has the form below, the marker is inside, the folder belongs to the same user, and all
files in it are regular.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

PREFIX = ".blemish-"
NAME = re.compile(re.escape(PREFIX) + r"[a-z0-9_]{8}")
MARKER = ".unfinished"
"""A file in every such folder. Where a folder is replaced in two steps, it holds the name of that folder."""

FINISHED = "new"
"""The folder inside it that becomes the new one."""

_swept: set[Path] = set()


class Scratch:
    """A new temporary folder, removed at the end of a `with` statement, by `close`, or when the process ends.

    Args:
        parent: where it is made; the system's folder for temporary files by default.

    Raises:
        OSError: it cannot be made.

    Attributes:
        path: the folder.
    """

    def __init__(self, parent: Path | None = None) -> None:
        parent = Path(tempfile.gettempdir()) if parent is None else parent
        _sweep(parent)
        self.path = parent / f"{PREFIX}{secrets.token_hex(4)}"
        self._lock: list[int] = []
        # Before the folder is made, so that it is removed after an interrupt at any moment.
        self._end = weakref.finalize(self, _close, self.path, self._lock, os.getpid())
        try:
            self.path.mkdir(0o700)
        except FileExistsError:
            self._end.detach()  # made by another process
            raise
        descriptor = locked(self.path, wait=True)  # another process may be testing the lock right now
        if descriptor is not None:
            self._lock.append(descriptor)
        (self.path / MARKER).touch()

    def close(self) -> None:
        """Removes the folder with all that is in it."""
        self._end()

    def will_replace(self, name: str) -> None:
        """Notes that `FINISHED` is whole and is about to be moved to `name`, beside this folder."""
        (self.path / MARKER).write_text(name, encoding="utf-8")

    def __enter__(self) -> Scratch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def locked(path: Path, *, wait: bool = False) -> int | None:
    """Returns a descriptor that holds the folder's lock; `None` if another process has it or locks do not exist."""
    try:
        import fcntl
    except ImportError:  # Windows: what a killed process leaves there stays
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Waits for a folder's lock and holds it within the context; where there are no locks, nothing is held."""
    descriptor = locked(folder, wait=True)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _close(path: Path, lock: list[int], owner: int) -> None:
    try:
        if os.getpid() == owner:  # not a forked child
            shutil.rmtree(path, ignore_errors=True)
    except BaseException:  # an interrupt; the rest is removed first
        shutil.rmtree(path, ignore_errors=True)
        raise
    finally:
        for descriptor in lock:
            os.close(descriptor)


def _sweep(parent: Path) -> None:
    """Removes what killed processes left in a folder; done once per folder in this process."""
    if parent in _swept:
        return
    _swept.add(parent)
    with suppress(OSError), os.scandir(parent) as entries:
        left = [Path(entry.path) for entry in entries if NAME.fullmatch(entry.name)]
        for path in left:
            with suppress(OSError):
                _sweep_one(path)


def _sweep_one(path: Path) -> None:
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or (hasattr(os, "geteuid") and status.st_uid != os.geteuid()):
        return
    descriptor = locked(path)
    if descriptor is None:
        return
    try:
        files, folders = _contents(path)
        if path / MARKER not in files:
            return
        name = (path / MARKER).read_text(encoding="utf-8")
        if name and Path(name).name == name and not os.path.lexists(path.parent / name):
            # Its maker was killed after it moved the old folder away and before it put the new one there.
            (path / FINISHED).rename(path.parent / name)
            files, folders = _contents(path)
        for file in files:
            file.unlink()
        for folder in folders:
            folder.rmdir()
        path.rmdir()
    finally:
        os.close(descriptor)


def _contents(path: Path) -> tuple[list[Path], list[Path]]:
    """Returns all regular files below, the marker last, and all folders, the deepest first.

    Raises `OSError` if there is anything else.
    """
    files: list[Path] = []
    folders: list[Path] = []
    for where, below, names in os.walk(path, topdown=False):
        here = [Path(where) / name for name in (*names, *below)]
        odd = [file for file in here if not (stat.S_ISREG(file.lstat().st_mode) or stat.S_ISDIR(file.lstat().st_mode))]
        if odd:
            raise OSError(f"{odd[0]} is neither a file nor a folder")
        files += here[: len(names)]
        folders += here[len(names) :]
    return sorted(files, key=lambda file: file == path / MARKER), folders
