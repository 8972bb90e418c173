"""Moves judged files into folders by verdict; no file is ever overwritten or lost."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path

from blemish.errors import SettingError
from blemish.storage.cards import digest
from blemish.watching.result import Kind

KINDS: tuple[Kind, ...] = ("good", "anomalous", "unreadable")
AGAIN = 5.0
"""Seconds until another attempt to move a file."""

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EACCES, errno.EINVAL)


def parse_moves(text: str) -> dict[Kind, Path]:
    """Reads `good=DIR,anomalous=DIR,unreadable=DIR`; some of them may be absent.

    Raises:
        SettingError: the text has another form.
    """
    found: dict[Kind, Path] = {}
    for part in text.split(","):
        name, equals, folder = part.partition("=")
        kind = next((kind for kind in KINDS if kind == name.strip()), None)
        if kind is None or not equals or not folder.strip() or kind in found:
            raise SettingError(
                f"--move {text!r} is not valid; give good=DIR,anomalous=DIR,unreadable=DIR, or only some of these"
            )
        found[kind] = Path(folder.strip())
    return found


class Moves:
    """The folders to which files are moved.

    Args:
        root: the watched folder.
        folders: by verdict; files of a verdict without a folder stay where they are.
    """

    def __init__(self, root: Path, folders: Mapping[Kind, Path]) -> None:
        self.root, self.folders = root, {str(kind): folder for kind, folder in folders.items()}
        self._later: dict[str, float] = {}

    def is_due(self, path: str, kind: str) -> bool:
        """Returns whether a file of this verdict must be moved now; after a failure, only some seconds later."""
        return kind in self.folders and time.monotonic() >= self._later.get(path, 0.0)

    def move(self, path: str, kind: str) -> bool:
        """Moves a file, given by its path below the root; it has the same path below its new folder.

        If a file with this name exists there, a number is added. Between file systems, the copy is flushed to the disk
        before the file is removed; after a crash between the two steps, the file is not copied again.

        Returns:
            Whether it was moved; `False` if this verdict has no folder, or the file is no longer there.

        Raises:
            OSError: it cannot be moved; it stays where it was.
        """
        folder = self.folders.get(kind)
        source = self.root / path
        if folder is None or not os.path.lexists(source):
            return False
        self._later[path] = time.monotonic() + AGAIN
        self._moved(source, folder / path)
        del self._later[path]
        return True

    def _moved(self, source: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            _linked(source, target)
        except OSError as error:
            if error.errno == errno.EXDEV:
                _copied(source, target)
            elif error.errno in _NO_LINKS:
                os.rename(source, _free(target))
                return
            else:
                raise
        source.unlink()


def _linked(source: Path, target: Path) -> None:
    """Links the file to a free name; after a crash the link may exist already."""
    for name in _names(target):
        try:
            os.link(source, name, follow_symlinks=False)
            return
        except FileExistsError:
            if os.path.samestat(os.lstat(source), os.lstat(name)):
                return


def _copied(source: Path, target: Path) -> None:
    """Copies the file to a free name, whole or not at all, unless the same file is there already."""
    for name in _names(target):
        if not os.path.lexists(name):
            break
        if name.is_file() and name.stat().st_size == source.stat().st_size and digest(name) == digest(source):
            return
    draft = name.with_name(f".{name.name}.part")
    try:
        shutil.copy2(source, draft)
        with draft.open("rb+") as file:
            os.fsync(file.fileno())
        os.rename(draft, name)
    finally:
        draft.unlink(missing_ok=True)
    if os.name != "nt":
        descriptor = os.open(name.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _names(target: Path) -> Iterator[Path]:
    """Yields the name, and then names with a number, without end."""
    yield target
    for number in count(2):
        yield target.with_name(f"{target.stem}_{number}{target.suffix}")


def _free(target: Path) -> Path:
    return next(name for name in _names(target) if not os.path.lexists(name))
