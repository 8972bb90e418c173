"""Names of the files that are written for an image, from its path below its source."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from blemish.datasets import LAYOUTS
from blemish.images import Location, Remote
from blemish.storage.remote import is_remote

LONGEST = 200
"""Bytes of a part of a name, at most, so that an ending fits within the 255 that systems allow."""

UNSAFE = frozenset('\\:*?"<>|/')
"""Characters that some systems do not allow in the names of files."""


class Names:
    """Gives each image a different name, with its folders below its source.

    If there are several source folders, the folder's name comes first; the second of two equal names ends with `_2`.

    Args:
        sources: as `predict` takes them: images, folders, `layout:PATH`, or addresses.
    """

    def __init__(self, sources: Sequence[str | Path]) -> None:
        folders = [folder for source in sources if (folder := _folder(source)) is not None]
        folders = list(dict.fromkeys(folders))
        self._prefixes: dict[str, str] = {}
        taken: set[str] = set()
        for folder in folders:
            prefix = _free(PurePosixPath(safe(folder.replace("\\", "/").rstrip("/").rpartition("/")[2])), taken)
            self._prefixes[folder] = str(prefix) if len(folders) > 1 else ""
        self._taken: set[str] = set()

    def below(self, path: Location) -> str:
        """Returns the path of an image below its source, such as `scratch/000.png`; another image may have the same."""
        text = path.url if isinstance(path, Remote) else path.as_posix()
        inner: list[str] = []
        while True:
            if text in self._prefixes and inner:
                prefix = self._prefixes[text]
                return "/".join([prefix, *inner] if prefix else inner)
            text, slash, name = text.rpartition("/")
            if not slash and (name in {"", ".", ".."} or "." not in self._prefixes):
                return path.name
            inner.insert(0, name)
            if not slash:
                text = "."  # a path relative to the working folder, which is the source

    def free(self, path: Location) -> str:
        """Returns that path as a name that every system accepts and no other image has, whatever its ending.

        `scratch/000_2.png` is the second of `scratch/000`.
        """
        return str(_free(PurePosixPath(*map(safe, self.below(path).split("/"))), self._taken))


def _free(name: PurePosixPath, taken: set[str]) -> PurePosixPath:
    """Returns a name, with a number if its stem is taken, and marks it as taken; upper and lower case are the same."""
    found, number = name, 2
    while str(found.with_suffix("")).lower() in taken:
        found = name.with_name(f"{name.stem}_{number}{name.suffix}")
        number += 1
    taken.add(str(found.with_suffix("")).lower())
    return found


def _folder(source: str | Path) -> str | None:
    """Returns the folder that holds the images of a source; `None` for a single image."""
    text = str(source)
    layout, colon, rest = text.partition(":")
    if colon and layout in LAYOUTS and (is_remote(rest) or not Path(text).exists()):
        text = rest
    if is_remote(text):
        return text.rstrip("/")
    path = Path(text)
    if path.is_dir() or path.suffix.lower() == ".npz":
        return path.as_posix()
    return path.parent.as_posix() if path.suffix.lower() == ".json" else None


def safe(name: str) -> str:
    """Returns a name that every system accepts: special characters become `_`, and a long name is cut."""
    kept = "".join("_" if letter in UNSAFE or not letter.isprintable() else letter for letter in name).rstrip(". ")
    stem, dot, ending = kept.rpartition(".")
    if not dot or len(ending) > 8:
        stem, ending = kept, ""
    stem = stem.encode()[: LONGEST - 10].decode(errors="ignore")
    return (f"{stem}.{ending}" if ending else stem) if stem.strip("_. ") or stem else "_"
