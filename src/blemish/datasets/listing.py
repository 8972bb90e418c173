"""Lists folders. What cannot be read is listed too, or is an error; only pictures that blemish drew are left out."""

from __future__ import annotations

import os
import re
from fnmatch import fnmatchcase
from pathlib import Path

from blemish.errors import SourceError
from blemish.images.files import SUFFIXES
from blemish.storage.cards import card_name, kind_of

Entry = os.DirEntry[str]

DRAWN = {"predictions", "explanations", "figures", "gallery"}
"""Kinds of folders whose pictures are not images of a data set."""

CARD = card_name("predictions")


def images_in(folder: Path, *, recursive: bool = False) -> list[Path]:
    """Returns image files by suffix, sorted by path, without dot-files and dot-folders.

    The name alone counts: a dangling link or a pipe is listed, and gives an error when it is read. Links to folders are
    followed, and each real folder is read once. A sub-folder that may not be read is listed in the place of its
    images, and gives an error when it is read. A sub-folder of results, such as that of `predict --out`, is left out:
    its pictures are drawn on the images.

    Raises:
        SourceError: the folder itself does not exist, or may not be read.
    """
    found: list[Path] = []
    seen: set[str] = set()
    folders, linked = [folder], list[Path]()
    while folders or linked:
        here = (folders or linked).pop(0)  # links last, so that an image has a path without links if there is one
        real = os.path.realpath(here)
        if real in seen:
            continue
        seen.add(real)
        try:
            entries = listed(here)
        except SourceError:
            if here == folder:
                raise
            found.append(here)
            continue
        if here != folder and _is_drawn(here, entries):
            continue
        for entry in entries:
            path = here / entry.name
            if _is_folder(entry):
                (linked if entry.is_symlink() else folders).append(path)
            elif path.suffix.lower() in SUFFIXES or (recursive and _may_be_folder(entry)):
                found.append(path)
        if not recursive:
            break
    return sorted(found)


def folders_in(folder: Path) -> list[Path]:
    """Returns sub-folders and links to folders, sorted, without those whose names begin with a dot.

    A broken link without a suffix is among them, so that listing it gives an error.

    Raises:
        SourceError: the folder is not there, or may not be read.
    """
    return [folder / entry.name for entry in listed(folder) if _is_folder(entry) or _may_be_folder(entry)]


def matching(folder: Path, pattern: str) -> list[Path]:
    """Returns files and folders whose names match the pattern, in small letters, whatever their case; sorted.

    Raises:
        SourceError: the folder is not there, or may not be read.
    """
    return [folder / entry.name for entry in listed(folder) if fnmatchcase(entry.name.lower(), pattern)]


def listed(folder: Path) -> list[Entry]:
    """Returns all entries of a folder, sorted by name, without those that begin with a dot.

    Raises:
        SourceError: it is not there, or may not be read.
    """
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if not entry.name.startswith(".")]
    except FileNotFoundError:
        if os.path.islink(folder):
            raise SourceError(f"{folder}: is a broken link; fix it, or remove it") from None
        raise SourceError(f"{folder}: no such folder; check the path") from None
    except PermissionError:
        raise SourceError(f"{folder}: may not be read; check its permissions") from None
    except OSError as error:
        raise SourceError(f"{folder}: cannot be read as a folder ({error.strerror}); check the path") from None
    return sorted(found, key=lambda entry: entry.name)


def by_number(name: str) -> list[tuple[int, str]]:
    """Returns a key by which names are sorted so that `2` stands before `10`."""
    return [(int(part) if part.isdecimal() else 0, part) for part in re.split(r"(\d+)", name)]


def _is_drawn(folder: Path, entries: list[Entry]) -> bool:
    """Whether the pictures in a folder were drawn by blemish."""
    return any(entry.name == CARD for entry in entries) and kind_of(folder) in DRAWN


def _is_folder(entry: Entry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a loop of links, or a link into a folder that may not be read
        return False


def _may_be_folder(entry: Entry) -> bool:
    """Whether it is a broken or unreadable link without a suffix, which may have led to a folder."""
    return entry.is_symlink() and not os.path.splitext(entry.name)[1] and not os.path.exists(entry.path)
