"""Reads texts from outside: tables, labels, JSON. Each has a limit, and paths in them must stay in their folder."""

from __future__ import annotations

import stat
from pathlib import Path, PurePosixPath
from typing import Any

from blemish.errors import SourceError
from blemish.storage.json_text import parse_json

LONGEST = 200
"""Characters of a name of a class."""


def read_text(file: Path, limit: int) -> str:
    """Returns the text of a file in UTF-8.

    Raises:
        SourceError: it is missing, not a regular file, larger than `limit` bytes, or not such a text.
    """
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):
            raise SourceError(f"{file}: is not a regular file; give a text file")
        if status.st_size > limit:
            raise SourceError(f"{file}: has {status.st_size:,} bytes, more than the limit of {limit:,}; split it")
        with file.open("rb") as content:
            return content.read(limit).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise SourceError(f"{file}: is not a text in UTF-8; save it as one") from None
    except OSError as error:
        raise SourceError(f"{file}: cannot be read ({error.strerror}); check the path") from None


def read_json(file: Path, limit: int) -> Any:
    """Returns what a JSON file holds, by the rules of `parse_json`. Raises `SourceError` as `read_text` does."""
    try:
        return parse_json(read_text(file, limit))
    except ValueError as error:
        raise SourceError(f"{file}: cannot be read ({error}); save it again") from None


def path_below(root: Path, name: str, place: str) -> Path:
    """Returns the path of a file that a text names, which lies below a folder.

    Args:
        root: the folder.
        name: as written, with either slash.
        place: where it stands, for messages.

    Raises:
        SourceError: the name is empty, absolute, leads out of the folder, or no file can have it.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    leads_out = not path.parts or path.is_absolute() or ".." in path.parts or ":" in path.parts[0]
    if leads_out or "\0" in name or any("\ud800" <= letter <= "\udfff" for letter in name):
        raise SourceError(f"{place}: {name[:LONGEST]!r} does not lie below {root}; give a path relative to it")
    return root / path


def class_name(name: object, place: str) -> str:
    """Returns a name of a class of defects. Raises `SourceError` if it is not a short text of one line, or `good`."""
    if not isinstance(name, str) or not name.strip() or len(name) > LONGEST or not name.isprintable():
        raise SourceError(f"{place}: is no name of a class; expected a text of one line, at most {LONGEST} characters")
    if name == "good":
        raise SourceError(f"{place}: a class of boxes cannot be 'good', the name of images without any; rename it")
    return name
