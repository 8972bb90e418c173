"""The card in every folder that blemish writes: what the folder is, and a digest of each file in it.

It is `model.json` in a saved model or an export, and `blemish.json` in any other folder. A folder that was altered
since it was written is refused.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from blemish.errors import StorageError
from blemish.expected import shown
from blemish.storage.json_text import read_json

FORMAT = 6
"""The only format that is read; folders of other formats are refused."""

CARDS = ("model.json", "blemish.json")
"""Names of cards: in a saved model or an export, and in any other folder."""

LARGEST_CARD = 64 << 20
"""The largest size of a card, in bytes."""

DEEP = frozenset({"predictions", "tree"})
"""Kinds of folders that may have folders in them."""

LARGEST_FILE = 64 << 30
"""The largest size of any other file of a folder, in bytes."""

LONGEST_NAME = 200
"""The longest name of a file, in characters."""

_DIGEST = re.compile(r"[0-9a-f]{64}")


def card_name(kind: str) -> str:
    """Returns the name of the card in a folder of a kind: `model`, `checkpoint`, `backbone`, `predictions` …"""
    return CARDS[0] if kind in {"model", "export"} else CARDS[1]


def kind_of(folder: Path) -> str | None:
    """Returns the kind of a folder by its card, which is not checked; `None` if it has none that can be read."""
    for name in CARDS:
        if os.path.isfile(folder / name):
            try:
                return str(read_json(own_file(folder, name), LARGEST_CARD)["kind"])
            except (StorageError, ValueError, TypeError, KeyError, OSError):
                return None
    return None


def write_card(folder: Path, kind: str, content: Mapping[str, Any]) -> None:
    """Writes the card of a folder: its kind, its content, a digest of each of its files, and one of the card itself."""
    names = [name for name in names_below(folder) if name != card_name(kind)]
    card = {"format": FORMAT, "kind": kind, **content, "files": digests(folder, names)}
    card["digest"] = digest_of(card)
    (folder / card_name(kind)).write_text(json.dumps(card, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def names_below(folder: Path) -> list[str]:
    """Returns the files in a folder and in those below it, sorted, such as `maps/scratch/000.jpg`."""
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if not file.is_dir())


def read_card(folder: Path, kind: str, *, complete: bool = True) -> dict[str, Any]:
    """Returns what `write_card` wrote, checked. Unless `complete` is false, the files it names must be there.

    Raises:
        StorageError: it is not a folder of this kind, has another format, was altered, or is incomplete.
    """
    file = folder / card_name(kind)
    try:
        if not folder.exists():
            raise StorageError(f"{folder}: no such {kind}; check the path")
        if not file.is_file():
            written = "what `blemish fit -o` wrote" if kind == "model" else "a folder that blemish wrote"
            saved = "saved model" if kind == "model" else kind
            raise StorageError(f"{folder}: is not a {saved} (it has no {file.name}); give {written}")
        card = read_json(own_file(folder, file.name), LARGEST_CARD)
        version = card["format"]
    except KeyError:
        raise StorageError(f"{file}: cannot be read (it has no format); copy the whole folder again") from None
    except (ValueError, TypeError, OSError) as error:
        raise StorageError(f"{file}: cannot be read ({reason_of(error)}); copy the whole folder again") from None
    if type(version) is not int or version != FORMAT:
        which = "newer" if isinstance(version, int) and version > FORMAT else "other"
        again = "fit the model again" if kind == "model" else "give another folder"
        advice = "upgrade blemish" if which == "newer" else again
        raise StorageError(
            f"{folder}: has format {shown(version)}, {which} than {FORMAT}, which this version of blemish reads; "
            f"{advice}"
        )
    said = card.pop("digest", None)
    if said != digest_of(card):
        raise StorageError(f"{file}: was altered after it was written; copy the whole folder again")
    if card.get("kind") != kind:
        raise StorageError(
            f"{folder}: holds {shown(card.get('kind'))} by its {file.name}, not {kind!r}; give another path"
        )
    _check_names(file, card.get("files"), deep=kind in DEEP)
    home = folder.resolve()
    for name in card["files"]:
        if os.path.lexists(folder / name):
            own_file(folder, name, home)
        elif complete:
            raise StorageError(f"{folder}: is incomplete, {name} is missing; copy the whole folder again")
    return dict(card)


def own_file(folder: Path, name: str, home: Path | None = None) -> Path:
    """Returns the path of a file of a folder, which may be opened; `home` is the folder without links.

    Raises:
        StorageError: it is a link that leads out of the folder, something other than a file, or larger than any file
            that blemish writes.
    """
    path = folder / name
    try:
        inside = path.resolve(strict=True).is_relative_to(home or folder.resolve(strict=True))
        status = path.stat()
    except (OSError, RuntimeError) as error:  # a link that leads to itself, and one that leads nowhere
        raise StorageError(f"{path}: cannot be read ({reason_of(error)}); copy the whole folder again") from None
    if not inside:
        raise StorageError(f"{path}: is a link that leads out of the folder; copy the file itself there")
    if not stat.S_ISREG(status.st_mode):
        raise StorageError(f"{path}: is not a file; copy the whole folder again")
    if status.st_size > LARGEST_FILE:
        raise StorageError(f"{path}: has {status.st_size:,} bytes, more than any file of blemish's; copy it again")
    return path


def _check_names(file: Path, files: Any, *, deep: bool) -> None:
    """Raises `StorageError` unless all names stay in the folder and have digests; `deep` allows folders before them."""
    if not isinstance(files, dict):
        raise StorageError(f"{file}: lists no files; copy the whole folder again")
    for name, found in files.items():
        parts = name.split("/") if deep else [name]
        is_plain = all(part not in {"", ".", ".."} and len(part) <= LONGEST_NAME for part in parts)
        if not is_plain or not name.isprintable() or {*name} & {*"\\:"} or ("/" in name and not deep):
            raise StorageError(f"{file}: lists the file {shown(name)}, not a plain name; copy the whole folder again")
        if not isinstance(found, str) or not _DIGEST.fullmatch(found):
            raise StorageError(f"{file}: lists {name} without a digest; copy the whole folder again")


def check_files(folder: Path, card: Mapping[str, Any]) -> None:
    """Raises `StorageError` unless every file that the card lists is the one that was written."""
    found = digests(folder, card["files"])
    for name, digest_of_file in card["files"].items():
        if found[name] != digest_of_file:
            raise StorageError(
                f"{folder / name}: was altered or cut short after it was written; copy the whole folder again"
            )


def copy_files(origin: Path, folder: Path, card: Mapping[str, Any]) -> None:
    """Copies the files that the card lists, and raises `StorageError` if a copy is not what was written."""
    for name in card["files"]:
        with (origin / name).open("rb") as source, (folder / name).open("wb") as target:
            while block := source.read(1 << 20):
                target.write(block)
    try:
        check_files(folder, card)
    except StorageError as error:
        raise StorageError(str(error).replace(str(folder), str(origin))) from None


def digests(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Returns the SHA-256 of files by name; several are read at a time."""
    listed = list(names)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return dict(zip(listed, pool.map(lambda name: digest(folder / name), listed), strict=True))


def digest(path: Path) -> str:
    """Returns the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        found = hashlib.sha256()
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def digest_of(card: Mapping[str, Any]) -> str:
    """Returns the SHA-256 of a card, which stands for all files that it names: the same for the same folder."""
    return hashlib.sha256(json.dumps(dict(card), sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def reason_of(error: BaseException) -> str:
    """Returns why reading or writing failed, in a few words."""
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return "no space left on the disk"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).split("\n", maxsplit=1)[0] or type(error).__name__
