"""Copies of the served models, one folder for each version, so that a rollback does not depend on the original folder.

`active.json` says which version decides. A version's name is the beginning of the digest of the model's card, which
covers all of its files.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from blemish.errors import ModelError, SettingError, StorageError
from blemish.storage import Scratch, check_files, copy_files, new_folder, read_card
from blemish.storage.cards import digest_of, reason_of
from blemish.storage.remote import fetch_folder, is_remote

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Names of models, which are part of addresses and of folder names."""

DIGITS = 12
CARD = "model.json"
LARGEST = 16 << 20
"""Bytes of `active.json`, at most."""


@dataclass(frozen=True)
class Active:
    """Which version of a model decides, which decided before, and which its folder held at the last check."""

    version: str
    previous: str | None
    seen: str


class Versions:
    """The copies in a folder.

    Args:
        folder: `versions` in the service's state.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file = folder.parent / "active.json"
        self._active = self._read()

    def path(self, name: str, version: str) -> Path:
        """Returns the folder of a version, which may not exist."""
        return self.folder / name / version

    def active(self, name: str) -> Active | None:
        """Returns the noted versions of a model; `None` if there are none, or if the copy is no longer there."""
        found = self._active.get(name)
        return found if found is not None and (self.path(name, found.version) / CARD).is_file() else None

    def holds(self, name: str, version: str | None) -> bool:
        """Returns whether there is a copy of this version."""
        return version is not None and (self.path(name, version) / CARD).is_file()

    def adopt(self, name: str, source: str) -> str:
        """Copies a model's folder, unless there is a copy of its version already. Returns the version.

        Raises:
            ModelError: the folder is not a model, is incomplete, or was changed.
            StorageError: the copy cannot be written; the message ends with the reason.
        """
        try:
            if is_remote(source):
                with Scratch() as scratch:
                    fetch_folder(source, "model", scratch.path)
                    return self._copied(name, scratch.path)
            return self._copied(name, Path(source))
        except OSError as error:
            raise ModelError(f"{source}: cannot be read ({reason_of(error)})") from None

    def _copied(self, name: str, source: Path) -> str:
        try:
            card = read_card(source, "model")
        except StorageError as error:
            raise ModelError(str(error)) from None
        version = digest_of(card)[:DIGITS]
        try:
            check_files(source, card)
        except StorageError as error:
            raise ModelError(str(error)) from None
        target = self.path(name, version)
        if target.exists():
            try:
                check_files(target, read_card(target, "model"))
                return version
            except (StorageError, OSError):
                shutil.rmtree(target)
        with new_folder(target, "model") as draft:
            copy_files(source, draft, card)
            shutil.copyfile(source / CARD, draft / CARD)
        return version

    def remember(self, name: str, active: Active) -> None:
        """Notes which version decides. Raises `StorageError` if that cannot be written; it still holds for this run."""
        self._active[name] = active
        content = json.dumps({key: asdict(value) for key, value in self._active.items()}, indent=1)
        draft = self._file.with_name(f".{self._file.name}.unfinished")
        try:
            with draft.open("w", encoding="utf-8") as file:
                file.write(content + "\n")
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._file)
        except OSError as error:
            with suppress(OSError):
                draft.unlink(missing_ok=True)
            raise StorageError(f"which version decides cannot be noted ({reason_of(error)})") from None

    def prune(self, name: str, kept: set[str]) -> None:
        """Removes the copies of other versions."""
        with suppress(OSError):
            for folder in (self.folder / name).iterdir():
                if folder.name not in kept and re.fullmatch(f"[0-9a-f]{{{DIGITS}}}", folder.name):
                    shutil.rmtree(folder, ignore_errors=True)

    def _read(self) -> dict[str, Active]:
        """Reads `active.json`; a damaged file counts as absent, and the models' own folders are served."""
        try:
            if self._file.stat().st_size > LARGEST:
                return {}
            content = json.loads(self._file.read_text(encoding="utf-8"))
            return {
                str(name): Active(**found)
                for name, found in content.items()
                if NAME.fullmatch(name)
                and all(_is_version(found[key]) for key in ("version", "seen"))
                and (found["previous"] is None or _is_version(found["previous"]))
            }
        except (OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError):
            return {}


def _is_version(text: object) -> bool:
    return isinstance(text, str) and re.fullmatch(f"[0-9a-f]{{{DIGITS}}}", text) is not None


def version_of(source: str) -> str:
    """Returns the version of the model in a local folder. Raises `ModelError` if there is no model."""
    try:
        return digest_of(read_card(Path(source), "model"))[:DIGITS]
    except StorageError as error:
        raise ModelError(str(error)) from None


def named(given: str) -> tuple[str, str]:
    """Returns the name and the source of a model that was given as `PATH` or `NAME=PATH`.

    Raises:
        SettingError: the name cannot be part of an address.
    """
    name, equals, source = given.partition("=")
    if equals and NAME.fullmatch(name):
        return name, source
    last = given.rstrip("/").replace("\\", "/").rpartition("/")[2]
    name = last.removesuffix(".blemish")
    if not NAME.fullmatch(name):
        raise SettingError(
            f"{given}: {name!r} cannot be a model's name here; give NAME={given}, with a NAME of up to 64 letters, "
            "digits, dots, dashes and underscores"
        )
    return name, given
