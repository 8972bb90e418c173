"""Files and folders elsewhere, by fsspec: `s3://bucket/folder`, `gs://…`, `memory://…`, and its other protocols.

This is only for such addresses, so fsspec is not imported for files of this machine. Credentials are those that its
packages find in the environment; an address that holds credentials is refused, since addresses are printed and kept in
models.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from blemish.errors import BlemishError, MissingExtraError, StorageError, is_out_of_memory, require
from blemish.storage.cards import LARGEST_CARD, card_name, names_below, read_card, reason_of
from blemish.storage.scratch import Scratch

BLOCK = 8 << 20
"""Bytes of a file that are read and written at a time."""

_ADDRESS = re.compile(r"(?P<protocol>([a-z][\w+.-]*::)*[a-z][\w+.-]*)://(?P<rest>.*)", re.IGNORECASE | re.DOTALL)
_LAST_SLASHES = re.compile(r"(?<=[^/:])/+$")
WEB = {"http", "https"}
"""Protocols of web pages: files are read there, and not written."""

_PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}


def is_remote(path: object) -> bool:
    """Whether a path is the address of something elsewhere, such as `s3://bucket/folder`."""
    return isinstance(path, str) and _ADDRESS.match(path) is not None


def is_address_in_a_path(path: Path) -> bool:
    """Whether a `Path` was made from an address, so that it lost a slash, and names no folder of this machine."""
    first = path.parts[0] if path.parts else ""
    return len(first) > 2 and _ADDRESS.match(f"{first}//") is not None and not Path(first).exists()


def connect(url: str) -> tuple[Any, str]:
    """Returns the file system of an address, as fsspec has it, and the path there.

    Raises:
        StorageError: it is no address of a file elsewhere, holds credentials, or cannot be reached.
        MissingExtraError: a package for it is not installed.
    """
    found = _ADDRESS.fullmatch(url)
    protocol, rest = (found["protocol"].lower(), found["rest"]) if found else ("", "")
    if "::" in url:
        raise StorageError(f"{protocol}://…: has several addresses in one (::); give a single one")
    if found is None or "\0" in url:
        raise StorageError(f"{url!r}: is not an address; give one such as s3://bucket/folder")
    if protocol in {"file", "local"}:
        raise StorageError(f"{url}: lies on this machine; give its path without {protocol}://")
    if "@" in rest.partition("/")[0] or (protocol in WEB and {*"?#"} & {*rest}):
        raise StorageError(
            f"{protocol}://…: the address holds a name, a password or a key, and addresses are printed and kept; set "
            "these in the environment"
        )
    require("fsspec", of=f"{protocol}://", extra="remote")
    import fsspec

    with faults_of(url):
        try:
            system, path = fsspec.core.url_to_fs(url)
        except ImportError as error:
            package = _PACKAGES.get(protocol) or (error.name or "").partition(".")[0]
            if not package:
                raise MissingExtraError(f"{url}: {protocol}:// cannot be used ({reason_of(error)})") from None
            raise MissingExtraError(f"{url}: {protocol}:// needs {package}; pip install {package}") from None
        except ValueError as error:
            if "not known" not in str(error):
                raise
            raise StorageError(f"{url}: fsspec knows no {protocol}://; give s3://, gs:// or another one") from None
    return system, str(path).rstrip("/")


@contextmanager
def faults_of(url: str) -> Iterator[None]:
    """Turns what fsspec and its packages raise into a `StorageError` of one line.

    They raise classes of their own where a bucket, credentials or the network are missing, so any error counts.
    """
    try:
        yield
    except BlemishError:
        raise
    except (FileNotFoundError, NotADirectoryError):
        raise StorageError(f"{url}: does not exist; check the address") from None
    except IsADirectoryError:
        raise StorageError(f"{url}: is a folder, not a file; check the address") from None
    except PermissionError as error:
        raise StorageError(
            f"{url}: these credentials do not allow it ({reason_of(error)}); check those of your environment"
        ) from None
    except Exception as error:
        if is_out_of_memory(error):
            raise
        if "Credential" in type(error).__name__:
            raise StorageError(
                f"{url}: no credentials for it in your environment ({reason_of(error)}); set them as its own tools "
                "take them, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            ) from None
        raise StorageError(
            f"{url}: cannot be reached ({reason_of(error)}); check the address, the network and your credentials"
        ) from None


def below(url: str, name: str) -> str:
    """Returns the address of what has this name in a folder, whose address may end with a slash."""
    folder = _LAST_SLASHES.sub("", url)
    return f"{folder}{'' if folder.endswith('/') else '/'}{name}"


def size_of(url: str) -> int | None:
    """Returns the bytes of a file, or `None` of a folder.

    Raises:
        StorageError: nothing is there, or it cannot be reached.
    """
    system, path = connect(url)
    with faults_of(url):
        told = system.info(path)
    return None if told["type"] == "directory" else int(told["size"] or 0)


def read_range(url: str, start: int, end: int) -> bytes:
    """Returns the bytes of a file from `start` to before `end`, or to its end; `start` must lie in it.

    Raises:
        StorageError: it is not there, or cannot be reached.
    """
    system, path = connect(url)
    with faults_of(url):
        return bytes(system.cat_file(path, start=start, end=end))


def files_below(url: str) -> dict[str, int]:
    """Returns the names of all files below a folder, from there, and their sizes; none if the folder is not there.

    A name that ends with a slash stands for a folder, as some tools mark it in a bucket, and is left out.

    Raises:
        StorageError: it cannot be reached.
    """
    system, path = connect(url)
    with faults_of(url):
        found: Mapping[str, Mapping[str, Any]] = {}
        with suppress(FileNotFoundError):
            system.invalidate_cache()
            found = system.find(path, detail=True)
    folder = f"{path}/"
    inside = {name.removeprefix(folder): told for name, told in found.items() if name.startswith(folder)}
    return {name: int(told["size"] or 0) for name, told in inside.items() if name and not name.endswith("/")}


def names_in(url: str) -> list[str]:
    """Returns what is in a folder, sorted; a folder's name ends with a slash. There is nothing in one that is absent.

    Raises:
        StorageError: it is a file, or cannot be reached.
    """
    system, path = connect(url)
    with faults_of(url):
        system.invalidate_cache()
        try:
            found = system.ls(path, detail=True)
        except FileNotFoundError:
            return []
    start = len(path) + 1
    if any(told["name"].rstrip("/") == path and told["type"] == "file" for told in found):
        raise StorageError(f"{url}: is a file, not a folder; give another address")
    names = (told["name"].rstrip("/")[start:] + "/" * (told["type"] == "directory") for told in found)
    return sorted(name for name in names if name.strip("/"))


def exists(url: str) -> bool:
    """Whether there is a file or a folder. Raises `StorageError` if it cannot be reached."""
    system, path = connect(url)
    with faults_of(url):
        system.invalidate_cache()
        return bool(system.exists(path))


def write_bytes(url: str, content: bytes) -> None:
    """Writes a file, whole or not at all: under another name first, which then becomes this one.

    Raises:
        StorageError: it cannot be written.
    """
    system, path = connect(url)
    folder, _, name = path.rpartition("/")
    draft = f"{folder}/.{name}.{secrets.token_hex(4)}.unfinished"
    with faults_of(url):
        system.makedirs(folder, exist_ok=True)
        system.pipe_file(draft, content)
        system.mv(draft, path)


def put_bytes(url: str, content: bytes) -> None:
    """Writes a file with one request; most buckets, but not every server, then hold it whole or not at all.

    Raises:
        StorageError: it cannot be written.
    """
    system, path = connect(url)
    with faults_of(url):
        system.makedirs(path.rpartition("/")[0], exist_ok=True)
        system.pipe_file(path, content)


def remove_file(url: str) -> None:
    """Removes a file. Raises `StorageError` if it cannot."""
    system, path = connect(url)
    with faults_of(url):
        system.rm_file(path)


def fetch_folder(url: str, kind: str, folder: Path) -> None:
    """Copies the files of a folder that blemish wrote elsewhere, those that its card names, into an empty folder here.

    Their digests are not compared yet.

    Raises:
        StorageError: there is no folder of this kind, its card is not valid, a file is missing, or the files do not fit
            this disk.
    """
    name = card_name(kind)
    system, path = connect(url)
    there = files_below(url)
    if name not in there:
        written = "what `blemish fit -o` wrote" if kind == "model" else "a folder that blemish wrote"
        what = f"holds no {name}, so it is not a {kind}, or not whole" if there else f"no such {kind}"
        raise StorageError(f"{url}: {what}; give {written}")
    if there[name] > LARGEST_CARD:
        raise StorageError(f"{below(url, name)}: has more than {LARGEST_CARD:,} bytes; copy the whole folder again")
    (folder / name).write_bytes(read_range(below(url, name), 0, LARGEST_CARD))
    with _as_of(url, folder):
        files = read_card(folder, kind, complete=False)["files"]
    for file in files:
        if file not in there:
            raise StorageError(f"{url}: is incomplete, {file} is missing; copy the whole folder again")
    needed, free = sum(there[file] for file in files), shutil.disk_usage(folder).free
    if needed > free:
        raise StorageError(
            f"{url}: has {needed / 1e9:.1f} GB and {folder.parent} {free / 1e9:.1f} GB free; make space, or set TMPDIR"
        )
    for file in files:
        with (folder / file).open("wb") as target:
            for block in _blocks(system, below(url, file), f"{path}/{file}", there[file]):
                target.write(block)


def upload_folder(folder: Path, url: str, kind: str, *, force: bool = False) -> None:
    """Copies a finished folder to an address, its card last, so that it is never read half-written.

    With `force`, a folder of the same kind is replaced: its card is removed first. On any error, what was copied is
    removed again.

    Raises:
        StorageError: something is there that may not be replaced, or it cannot be written.
    """
    check_free_remote(url, kind, force=force)
    system, path = connect(url)
    card = card_name(kind)
    before = files_below(url)
    copied: list[str] = []
    try:
        if card in before:
            remove_file(below(url, card))
        for name in [*(name for name in names_below(folder) if name != card), card]:
            copied.append(name)
            with faults_of(below(url, name)):
                system.makedirs(f"{path}/{name}".rpartition("/")[0], exist_ok=True)
                system.put_file(str(folder / name), f"{path}/{name}")
    except BaseException:
        for name in copied:
            with suppress(Exception):
                system.rm_file(f"{path}/{name}")
        raise
    for name in before.keys() - set(copied):
        remove_file(below(url, name))


def check_writable(url: str) -> None:
    """Raises `StorageError` if nothing can be written below an address of this form."""
    connect(url)
    protocol, _, rest = url.partition("://")
    if protocol.lower() in WEB:
        raise StorageError(f"{url}: nothing can be written to a web address; give s3://bucket/folder, or a path")
    if "//" in rest.strip("/"):
        raise StorageError(f"{url}: has a folder without a name (//); give another address")


def check_free_remote(url: str, kind: str, *, force: bool = False) -> None:
    """Raises `StorageError` if a folder of a kind cannot be put at an address.

    Without `force` nothing may be there; with it, a folder of this kind that nobody changed may be.
    """
    check_writable(url)
    there = files_below(url)
    if not there:
        system, path = connect(url)
        with faults_of(url):
            if system.isfile(path):
                raise StorageError(f"{url}: is a file, so it is not replaced; give another address")
        return
    if not force:
        raise StorageError(f"{url}: exists already; give another address, or replace it with --force (force=True)")
    own = card_name(kind)
    if own not in there or there[own] > LARGEST_CARD:
        raise StorageError(f"{url}: holds no {own}, so it is not replaced; give another address, or remove it")
    with Scratch() as scratch:
        (scratch.path / own).write_bytes(read_range(below(url, own), 0, LARGEST_CARD))
        with _as_of(url, scratch.path):
            files = read_card(scratch.path, kind, complete=False)["files"]
    system, path = connect(url)
    for name, size in there.items():
        if name == own:
            continue
        if name not in files:
            raise StorageError(
                f"{url}: holds {name}, which blemish did not write, so it is not replaced; move that away, or give "
                "another address"
            )
        found = hashlib.sha256()
        for block in _blocks(system, below(url, name), f"{path}/{name}", size):
            found.update(block)
        if found.hexdigest() != files[name]:
            raise StorageError(
                f"{url}: {name} was changed after blemish wrote it, so it is not replaced; give another address, or "
                "remove the folder"
            )


def _blocks(system: Any, url: str, path: str, size: int) -> Iterator[bytes]:
    """Yields the bytes of a file, at most as many as it was said to have."""
    with faults_of(url), system.open(path, "rb") as file:
        while size > 0 and (block := file.read(min(BLOCK, size))):
            size -= len(block)
            yield block


@contextmanager
def _as_of(url: str, folder: Path) -> Iterator[None]:
    """Names the address in an error that names the copy."""
    try:
        yield
    except StorageError as error:
        raise StorageError(str(error).replace(str(folder), url)) from None
