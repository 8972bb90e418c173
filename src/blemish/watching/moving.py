"""Moves files that were judged into folders by their verdict; nothing is ever overwritten or lost."""

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
"""Seconds after which a file that could not be moved is tried again."""

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EACCES, errno.EINVAL)


def parse_moves(text: str) -> dict[Kind, Path]:
    """Reads `good=DIR,anomalous=DIR,unreadable=DIR`, of which some may be absent.

    Raises:
        SettingError: it is something else.
    """
    found: dict[Kind, Path] = {}
    for part in text.split(","):
        name, equals, folder = part.partition("=")
        kind = next((kind for kind in KINDS if kind == name.strip()), None)
        if kind is None or not equals or not folder.strip() or kind in found:
            raise SettingError(
                f"--move {text!r} is not understood; give good=DIR,anomalous=DIR,unreadable=DIR, or some"
            )
        found[kind] = Path(folder.strip())
    return found


class Moves:
    """Where files go by their verdict.

    Args:
        root: the folder that is watched.
        folders: for each verdict; of one that is absent, files stay where they are.
    """

    def __init__(self, root: Path, folders: Mapping[Kind, Path]) -> None:
        self.root, self.folders = root, {str(kind): folder for kind, folder in folders.items()}
        self._later: dict[str, float] = {}

    def is_due(self, path: str, kind: str) -> bool:
        """Whether a file of this verdict is to be moved now; one that could not be is tried again after a while."""
        return kind in self.folders and time.monotonic() >= self._later.get(path, 0.0)

    def move(self, path: str, kind: str) -> bool:
        """Moves a file, by its path below the root, which it keeps below its new folder.

        If the name is taken there, the new one gets a number. Across file systems a copy is flushed to the disk before
        the file is removed; after a crash between the two, the same file that is there already is not copied again.

        Returns:
            Whether it was moved; `False` if this verdict has no folder, or the file has gone.

        Raises:
            OSError: it cannot be moved; it is still where it was.
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
    """Gives the file a second name, which is free; after a crash it may have it already."""
    for name in _names(target):
        try:
            os.link(source, name, follow_symlinks=False)
            return
        except FileExistsError:
            if os.path.samestat(os.lstat(source), os.lstat(name)):
                return


def _copied(source: Path, target: Path) -> None:
    """Copies the file to a name that is free, whole or not at all, unless the same file is there already."""
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
