"""What lies in a folder. What cannot be looked into is handed on or refused, never left out without a word."""

from __future__ import annotations

import os
from fnmatch import fnmatchcase
from pathlib import Path

from blemish.errors import SourceError
from blemish.images.files import SUFFIXES

Entry = os.DirEntry[str]


def images_in(folder: Path, *, recursive: bool = False) -> list[Path]:
    """Image files by suffix, sorted by path; dot-files and dot-folders are left out.

    A name counts whatever is behind it: a dangling link or a pipe gives an error once it is read. Links to folders are
    followed, and each real folder is looked into once. A sub-folder that may not be listed stands for its images: it
    is in the list, and reading it gives an error too.

    Raises:
        SourceError: the folder itself is not there, or may not be read.
    """
    found: list[Path] = []
    seen: set[str] = set()
    folders, linked = [folder], list[Path]()
    while folders or linked:
        here = (folders or linked).pop(0)  # links last, so that an image keeps the path that has none
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
    """Its sub-folders and links to folders, sorted; those that begin with a dot are left out.

    A link that leads nowhere and has no suffix is among them, so that whoever lists it is told.

    Raises:
        SourceError: the folder is not there, or may not be read.
    """
    return [folder / entry.name for entry in listed(folder) if _is_folder(entry) or _may_be_folder(entry)]


def matching(folder: Path, pattern: str) -> list[Path]:
    """What has a name like the pattern, which is in small letters, whatever the name's case; sorted.

    Raises:
        SourceError: the folder is not there, or may not be read.
    """
    return [folder / entry.name for entry in listed(folder) if fnmatchcase(entry.name.lower(), pattern)]


def listed(folder: Path) -> list[Entry]:
    """All entries of a folder by name, but for those that begin with a dot.

    Raises:
        SourceError: it is not there, or may not be read.
    """
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if not entry.name.startswith(".")]
    except FileNotFoundError:
        if os.path.islink(folder):
            raise SourceError(f"{folder}: is a link to what does not exist; mend the link, or remove it") from None
        raise SourceError(f"{folder}: no such folder; check the path") from None
    except PermissionError:
        raise SourceError(f"{folder}: may not be read; check its permissions") from None
    except OSError as error:
        raise SourceError(f"{folder}: cannot be read as a folder ({error.strerror}); check the path") from None
    return sorted(found, key=lambda entry: entry.name)


def _is_folder(entry: Entry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a loop of links, or one into a folder that may not be looked into
        return False


def _may_be_folder(entry: Entry) -> bool:
    """Whether it is a link that leads nowhere, or to where nobody may look, and has a name as folders have them."""
    return entry.is_symlink() and not os.path.splitext(entry.name)[1] and not os.path.exists(entry.path)
