"""A folder that is filled file by file, here or elsewhere, by one process or many."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from blemish.errors import StorageError
from blemish.storage.cards import reason_of
from blemish.storage.remote import below as address_below
from blemish.storage.remote import exists, is_remote, names_in, put_bytes, read_range, remove_file, write_bytes

UNFINISHED = ".unfinished"
"""The end of the names of files that are still being written."""


@dataclass(frozen=True)
class Place:
    """A folder at a path or an address. Names of files may have folders before them: `maps/000.png`.

    Every method raises `StorageError` if the folder cannot be read, or written to.
    """

    where: str

    def names(self, below: str = "") -> list[str]:
        """Returns what is in the folder, or in one below it, sorted; a folder's name ends with a slash.

        There is nothing in a folder that does not exist.
        """
        if is_remote(self.where):
            return names_in(address_below(self.where, below))
        try:
            with os.scandir(Path(self.where, below)) as entries:
                return sorted(entry.name + "/" * entry.is_dir() for entry in entries)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._fault(f"cannot be read ({reason_of(error)})") from None

    def holds(self, name: str) -> bool:
        """Whether there is a file of this name."""
        return exists(address_below(self.where, name)) if is_remote(self.where) else Path(self.where, name).is_file()

    def read(self, name: str, most: int) -> bytes:
        """Returns the bytes of a file, at most as many as said; a file that is longer is cut there."""
        if is_remote(self.where):
            return read_range(address_below(self.where, name), 0, most)
        try:
            with Path(self.where, name).open("rb") as file:
                return file.read(most)
        except OSError as error:
            raise self._fault(f"{name} cannot be read ({reason_of(error)})") from None

    def write(self, name: str, content: bytes) -> None:
        """Writes a file, whole or not at all: under another name first, which then becomes this one."""
        if is_remote(self.where):
            return write_bytes(address_below(self.where, name), content)
        path = Path(self.where, name)
        draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}{UNFINISHED}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with draft.open("xb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                draft.replace(path)
            except BaseException:
                with suppress(OSError):
                    draft.unlink()
                raise
        except OSError as error:
            raise self._fault(f"{name} cannot be written ({reason_of(error)})") from None
        return None

    def put(self, name: str, content: bytes) -> None:
        """Writes a file to which a later file refers, with a single request if the folder is elsewhere.

        Readers ignore it until that later file is there, so it need not be written whole or not at all.
        """
        if is_remote(self.where):
            put_bytes(address_below(self.where, name), content)
        else:
            self.write(name, content)

    def remove(self, name: str) -> None:
        """Removes a file."""
        if is_remote(self.where):
            return remove_file(address_below(self.where, name))
        try:
            Path(self.where, name).unlink()
        except OSError as error:
            raise self._fault(f"{name} cannot be removed ({reason_of(error)})") from None
        return None

    def remove_empty(self, name: str) -> None:
        """Removes a folder if it is empty; elsewhere there is none without files."""
        if not is_remote(self.where):
            with suppress(OSError):
                Path(self.where, name).rmdir()

    def _fault(self, what: str) -> StorageError:
        return StorageError(f"{self.where}: {what}; check the path and its permissions")
