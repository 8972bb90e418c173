"""A folder written whole or not at all, and read only if it is what was written."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from blemish.errors import ModelError

FORMAT = 1
CARD = "model.json"
LARGEST_CARD = 64 << 20


@contextlib.contextmanager
def new_folder(path: Path, *, force: bool = False, marker: str = CARD) -> Iterator[Path]:
    """A temporary folder beside `path` to fill, which takes its place at the end; on any error nothing is left.

    What stands at `path` is replaced only with `force`, and only if it holds a file called `marker`.

    Raises:
        ModelError: `path` exists and may not be replaced, it cannot be written, or the disk is full.
    """
    check_free(path, force=force, marker=marker)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        yield temporary
        for file in sorted(temporary.iterdir()):
            file.chmod(0o644)
            _sync(file)
        _sync(temporary)
        temporary.chmod(0o755)
        if path.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent))
            path.rename(old / path.name)
            temporary.rename(path)
            shutil.rmtree(old)
        else:
            temporary.rename(path)
        _sync(path.parent)
    except OSError as error:
        raise ModelError(f"{path}: cannot be written ({_reason(error)}); nothing was written") from error
    finally:
        if temporary is not None and temporary.exists():
            shutil.rmtree(temporary, ignore_errors=True)


def check_free(path: Path, *, force: bool = False, marker: str = CARD) -> None:
    """Raises `ModelError` if `path` cannot be written, or is there and is not to be replaced (see `new_folder`)."""
    if path.exists() and not force:
        raise ModelError(f"{path}: exists already; give another path, or replace it with --force")
    parent = next(folder for folder in path.absolute().parents if folder.exists())
    if not (parent.is_dir() and os.access(parent, os.W_OK)):
        raise ModelError(f"{path}: {parent} may not be written to; give another path")
    if path.exists() and not (path / marker).is_file():
        raise ModelError(f"{path}: holds no {marker}, so --force does not replace it; give another path")


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """The same for one file: a temporary path to write, renamed to `path` at the end.

    Raises:
        ModelError: it cannot be written, or the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _sync(temporary)
        temporary.replace(path)
    except OSError as error:
        raise ModelError(f"{path}: cannot be written ({_reason(error)}); nothing was written") from error
    finally:
        with contextlib.suppress(OSError):  # it was renamed, or never made
            temporary.unlink()


def write_card(folder: Path, content: dict[str, Any]) -> None:
    """`model.json` for the files that are in the folder: their digests, and one of the content itself."""
    files = {file.name: digest(file) for file in sorted(folder.iterdir()) if file.name != CARD}
    card = {"format": FORMAT, **content, "files": files}
    card["digest"] = _digest_of(card)
    (folder / CARD).write_text(json.dumps(card, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def read_card(folder: Path) -> dict[str, Any]:
    """What `write_card` wrote, checked; the files it names are there.

    Raises:
        ModelError: not a model, of a newer format, altered, or incomplete.
    """
    if not folder.exists():
        raise ModelError(f"{folder}: no such model; check the path")
    file = folder / CARD
    if not file.is_file():
        raise ModelError(f"{folder}: is not a saved model (it has no {CARD}); give what `blemish fit -o` wrote")
    try:
        if file.stat().st_size > LARGEST_CARD:
            raise ValueError(f"more than {LARGEST_CARD:,} bytes")
        card = json.loads(file.read_text(encoding="utf-8"))
        version = card["format"]
    except (ValueError, KeyError, TypeError, RecursionError, OSError) as error:
        raise ModelError(f"{file}: cannot be read ({_reason(error)}); fit the model again") from None
    if not isinstance(version, int) or version > FORMAT:
        raise ModelError(
            f"{folder}: has format {version}, newer than {FORMAT}, which this blemish reads; upgrade blemish"
        )
    said = card.pop("digest", None)
    if said != _digest_of(card) or not isinstance(card.get("files"), dict):
        raise ModelError(f"{file}: was altered after it was written; fit the model again, or restore the file")
    for name in card["files"]:
        if not (folder / name).is_file():
            raise ModelError(f"{folder}: is incomplete, {name} is missing; copy the whole folder again")
    return dict(card)


def check_file(folder: Path, card: dict[str, Any], name: str) -> Path:
    """A file of the model, known to be the one that was written. Raises `ModelError` if it is another."""
    if card["files"].get(name) != digest(folder / name):
        raise ModelError(f"{folder / name}: was altered or cut short after it was written; copy the model again")
    return folder / name


def digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        found = hashlib.sha256()
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def _digest_of(card: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(card, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return  # Windows has no handle to flush a folder by
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return "no space left on the disk"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).split("\n", maxsplit=1)[0] or type(error).__name__


def check_writable(path: Path) -> None:
    """Raises `ModelError` if no file could be written to `path`; nothing is left there.

    It is tried for real, by a file that is there for a moment: what permissions say counts nothing for the superuser,
    and nothing on a disk that is mounted to be read alone.
    """
    whole = path.absolute()
    parent = next(folder for folder in whole.parents if os.path.lexists(folder))
    if os.path.isdir(path):
        raise ModelError(f"{path}: is a folder; give the name of a file in it")
    if not os.path.isdir(parent):
        raise ModelError(f"{path}: {parent} is no folder; give another path")
    try:
        for name in whole.relative_to(parent).parts:  # a name that is too long is refused even where nothing is
            with contextlib.suppress(FileNotFoundError):
                os.lstat(parent / name)
        with tempfile.NamedTemporaryFile(prefix=f".{path.name}.", suffix=path.suffix, dir=parent):
            pass
    except OSError as error:
        raise ModelError(f"{path}: cannot be written ({_reason(error)}); give another path") from None
