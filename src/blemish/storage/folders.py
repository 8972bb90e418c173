"""Folders and files that are written whole or not at all, and replaced only where blemish wrote them.

Every folder that blemish writes holds a card that says what it is and lists its files: `model.json` in a saved model,
`blemish.json` in any other. A page or a picture holds a line that says who made it.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import re
import stat
import sys
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

from blemish.errors import StorageError
from blemish.storage.cards import card_name, digest, kind_of, read_card, reason_of, write_card
from blemish.storage.remote import check_free_remote, is_address_in_a_path, is_remote, upload_folder
from blemish.storage.scratch import FINISHED, Scratch, held

MADE_BY = "made by blemish"
"""The mark in a page or a picture that blemish wrote, near its beginning or its end."""

NEAR = 1024
"""Bytes at the beginning and at the end of a file in which the mark is searched for."""

SYNCING = 8
"""Files of a folder that are flushed to the disk at a time."""

_SIGNATURE = re.compile(rb"<!-- made by blemish, ([0-9a-f]{64}) -->\n$")
_PICTURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF")
EXISTS = "exists already; give another path, or replace it with --force (in Python, force=True)"

_EXCHANGE = 2
_HERE = -100  # AT_FDCWD: paths are relative to the working folder


@contextlib.contextmanager
def new_folder(
    path: str | Path, kind: str, *, force: bool = False, replaces: Mapping[str, Any] | None = None
) -> Iterator[Path]:
    """Yields a folder to fill, which becomes `path` at the end of the `with` statement; on any error nothing is left.

    With `force`, a folder that blemish wrote and nobody changed is replaced. Where the system can
    exchange two folders (Linux), the old or the new one is at `path` at any moment. Elsewhere nothing can be exchanged:
    the card is copied last, so that a folder that is not whole has none.

    Args:
        path: where it goes, or its address elsewhere; its parent is made if it is absent.
        kind: the kind of folder, as its card says; if the caller wrote no card, one without content is added.
        force: replace a folder of the same kind.
        replaces: the card of the folder that may be replaced, and of no other one.

    Raises:
        StorageError: `path` exists and may not be replaced, it cannot be written, or the disk is full.
    """
    check_free(path, kind, force=force)
    if is_remote(path):
        with _told(Path(tempfile.gettempdir())), Scratch() as scratch:
            draft = scratch.path / FINISHED
            draft.mkdir()
            yield draft
            if not (draft / card_name(kind)).exists():
                write_card(draft, kind, {})
            upload_folder(draft, str(path), kind, force=force)
        return
    path = Path(path)
    with _told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with Scratch(path.parent) as scratch:
            draft = scratch.path / FINISHED
            draft.mkdir()
            yield draft
            if not (draft / card_name(kind)).exists():
                write_card(draft, kind, {})
            inside = sorted(draft.rglob("*"), reverse=True)  # what is in a folder before the folder
            for made in inside:
                made.chmod(0o755 if made.is_dir() else 0o644)
            with ThreadPoolExecutor(SYNCING) as pool:  # a disk writes many files at once, and one by one waits for each
                list(pool.map(_sync, [made for made in inside if not made.is_dir()]))
            for made in inside:
                if made.is_dir():
                    _sync(made)
            draft.chmod(0o755)
            _sync(draft)
            with contextlib.nullcontext() if replaces is None else _unchanged(path, kind, replaces):
                if os.path.lexists(path):
                    check_free(path, kind, force=force)  # again, since it may have changed meanwhile
                    _replace(draft, path, kind, scratch)
                else:
                    draft.rename(path)
            _sync(path.parent)


@contextlib.contextmanager
def _unchanged(path: Path, kind: str, card: Mapping[str, Any]) -> Iterator[None]:
    """Locks the folder at `path` within the context, so that of two programs that replace it only the first succeeds.

    Raises:
        StorageError: the folder has another card by now.
    """
    with held(path):
        if read_card(path, kind) != card:
            raise StorageError(
                f"{path}: another program has changed it meanwhile, so it is not replaced; run this again"
            )
        yield


def check_free(path: str | Path, kind: str, *, force: bool = False) -> None:
    """Raises `StorageError` if a folder of a kind cannot be written at `path` (see `new_folder`)."""
    if is_remote(path):
        return check_free_remote(str(path), kind, force=force)
    path = Path(path)
    _check_name(path)
    with _told(path):
        if not os.path.lexists(path):
            _check_writable(path)
        elif not force:
            raise StorageError(f"{path}: {EXISTS}")
        else:
            _own_files(path, kind)
            _check_writable(path)
    return None


@contextlib.contextmanager
def new_file(path: Path, *, force: bool = False, has_mark: bool = True) -> Iterator[Path]:
    """Yields a path to write one file to, which becomes `path` at the end of the `with` statement.

    With `force`, a regular file is replaced if it has the mark `MADE_BY`; a page that was `signed` must not have
    been changed since. With `has_mark` false, for kinds of files that can have none, any regular file is.

    Raises:
        StorageError: `path` exists and may not be replaced, it cannot be written, or the disk is full.
    """
    check_free_file(path, force=force, has_mark=has_mark)
    with _told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with Scratch(path.parent) as scratch:
            draft = scratch.path / path.name
            yield draft
            draft.chmod(0o644)
            _sync(draft)
            check_free_file(path, force=force, has_mark=has_mark)
            draft.replace(path)
            _sync(path.parent)


def check_free_file(path: Path, *, force: bool = False, has_mark: bool = True) -> None:
    """Raises `StorageError` if a file cannot be written at `path` (see `new_file`)."""
    _check_name(path)
    with _told(path):
        if not os.path.lexists(path):
            return _check_writable(path)
        if path.is_dir():
            raise StorageError(f"{path}: is a folder; give the name of a file in it")
        if not force:
            raise StorageError(f"{path}: {EXISTS}")
        if not stat.S_ISREG(path.lstat().st_mode):
            raise StorageError(f"{path}: is not a regular file, so it is not replaced; give another path")
        if has_mark and not _is_own(path):
            raise StorageError(
                f"{path}: was not made by blemish, or was changed since, so it is not replaced; give another path, or "
                "remove it"
            )
        return _check_writable(path)


def _check_name(path: Path) -> None:
    if is_address_in_a_path(path):
        raise StorageError(
            f"{path}: looks like an address; pictures, pages and other files are written on this machine only; give "
            "the address of a model or a folder of results as text (in Python, str)"
        )
    if "\0" in str(path):
        raise StorageError(f"{str(path)!r}: no file can have this name; give another path")


def signed(page: str) -> str:
    """Returns the page with a last line: the mark `MADE_BY`, and a digest of all that comes before."""
    return f"{page}<!-- {MADE_BY}, {_digest(page.encode())} -->\n"


def _is_own(path: Path) -> bool:
    """Whether a file has the mark `MADE_BY` and, if it is a signed page, was not changed since."""
    with path.open("rb") as file:
        start = file.read(NEAR)
        file.seek(-min(NEAR, path.stat().st_size), os.SEEK_END)
        end = file.read(NEAR)
    mark = _SIGNATURE.search(end)
    if mark is None:
        return start.startswith(_PICTURES) and MADE_BY.encode() in start + end
    content = path.read_bytes()
    return _digest(content[: len(content) - len(mark[0])]).encode() == mark[1]


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _check_writable(path: Path) -> None:
    """Creates and removes a temporary file there, since permission bits say nothing to root.

    Raises `StorageError` if `path`, or a folder for it, cannot be made, or if it lies in a model, which would hold
    something that blemish does not know and could no longer be replaced.
    """
    whole = path.absolute()
    for folder in whole.parents:
        if (kind := kind_of(folder)) in {"model", "export"}:
            raise StorageError(f"{path}: lies in {folder}, which is a saved {kind}; give another path")
    parent = next(folder for folder in whole.parents if os.path.lexists(folder))
    if not parent.is_dir():
        raise StorageError(f"{path}: {parent} is not a folder, so nothing can be written there; give another path")
    try:
        for name in whole.relative_to(parent).parts:  # raises for a name that is too long
            with contextlib.suppress(FileNotFoundError):
                (parent / name).lstat()
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        raise StorageError(f"{path}: {parent} may not be written to ({reason_of(error)}); give another path") from error


def _own_files(path: Path, kind: str, *, moved: bool = False) -> list[str]:
    """Returns the names of all files in a folder of a kind. Raises `StorageError` if blemish did not write all of it.

    The content of the files is not compared again if the folder has just been `moved` away.
    """
    card = card_name(kind)
    if path.is_symlink() or not path.is_dir():
        what = "is a link" if path.is_symlink() else "is not a folder"
        raise StorageError(f"{path}: {what}, so it is not replaced; give another path")
    if not (path / card).is_file():
        raise StorageError(f"{path}: holds no {card}, so it is not replaced; give another path, or remove it")
    try:
        files = read_card(path, kind, complete=False)["files"]
    except StorageError as error:
        reason = str(error).removeprefix(f"{path}: ").removeprefix(f"{path / card}: ").partition("; ")[0]
        raise StorageError(
            f"{path}: is not known to be blemish's own ({reason}), so it is not replaced; "
            "give another path, or remove it"
        ) from None
    folders = {folder.as_posix() for name in files for folder in PurePosixPath(name).parents}
    for found in sorted(path.rglob("*")):
        name, mode = found.relative_to(path).as_posix(), found.lstat().st_mode
        if name == card or (name in folders and stat.S_ISDIR(mode)):
            continue
        if name not in files or not stat.S_ISREG(mode):
            raise StorageError(
                f"{path}: holds {name}, which blemish did not write, so it is not replaced; "
                "move that away, or give another path"
            )
        if not moved and digest(found) != files[name]:
            raise StorageError(
                f"{path}: {name} was changed after blemish wrote it, so it is not replaced; "
                "remove the folder, or give another path"
            )
    return sorted({card, *files})


def _replace(draft: Path, path: Path, kind: str, scratch: Scratch) -> None:
    """Replaces the folder at `path` by `draft`, and removes the old one."""
    old = draft
    if not _exchanged(draft, path):
        old = scratch.path / "old"
        scratch.will_replace(path.name)
        path.rename(old)
        draft.rename(path)
    try:
        names = _own_files(old, kind, moved=True)  # in case something was put there at the last moment
    except StorageError as error:
        kept = path.with_name(f"{path.name}.kept")
        old.rename(kept)
        raise StorageError(f"{kept}: holds what was put into {path} while it was replaced ({error})") from None
    _remove(old, names)


def remove_folder(path: Path, kind: str) -> None:
    """Removes a folder of a kind, if blemish wrote everything in it.

    Raises:
        StorageError: blemish did not write everything; nothing was removed.
        OSError: it cannot be removed.
    """
    _remove(path, _own_files(path, kind))


def _remove(path: Path, names: list[str]) -> None:
    for name in names:
        (path / name).unlink(missing_ok=True)
    below = {folder for name in names for folder in PurePosixPath(name).parents}
    for folder in sorted(below, key=lambda folder: -len(folder.parts)):  # the deepest first, `path` itself last
        (path / folder).rmdir()


def _exchanged(one: Path, other: Path) -> bool:
    """Exchanges two folders in one step; returns `False` where the system cannot."""
    if sys.platform != "linux":
        return False
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    return bool(renameat2(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0)


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turns an `OSError` within the context into a `StorageError`."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({reason_of(error)}); nothing of it was written") from error


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return  # Windows has no handle to flush a folder by
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
