"""The model in a folder, loaded again when the folder is replaced, while the old model continues to judge."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from blemish.engines.devices import RunsOn
from blemish.errors import BlemishError, ModelError, StorageError
from blemish.model import Model
from blemish.model.saved import Saved
from blemish.storage import Scratch, read_card
from blemish.storage.cards import card_name, copy_files, digest_of, reason_of
from blemish.storage.remote import is_remote

LOOK = 0.5
"""Seconds between checks of the folder."""
AGAIN = 2.0
"""Seconds until another attempt to load a folder, since it may have been half-copied."""


@dataclass(frozen=True)
class Loaded:
    """A model, its name, and its version: the first 12 hexadecimal digits of the digest of its card.

    It is loaded from a temporary copy, because its weights are mapped from the files, which may be replaced.
    """

    model: Model
    name: str
    version: str
    scratch: Scratch | None = None


class LiveModel:
    """The model at a path, and each model that replaces it there.

    Args:
        path: of the model's folder, or its address elsewhere, which is read once.
        runs_on: the engine and the device, as `Model.load` takes them.
        rates: as `Model.at` takes them.
        say: called with a line about each new model, and about one that cannot be loaded.

    Raises:
        ModelError, SettingError: as `Model.load` and `Model.at` do.
    """

    def __init__(
        self, path: str, runs_on: RunsOn, rates: Mapping[str, float | None], say: Callable[[str], None]
    ) -> None:
        self._path, self._runs_on, self._rates, self._say = path, runs_on, dict(rates), say
        self._seen = self._identity()
        self._loading: threading.Thread | None = None
        self._next: Loaded | BlemishError | None = None
        self._look_at, self._told = 0.0, ""
        self._current = self._load()

    @property
    def current(self) -> Loaded:
        """The model for the next images."""
        now = time.monotonic()
        if self._loading is not None and not self._loading.is_alive():
            self._loading.join()
            self._loading, found, self._next = None, self._next, None
            self._look_at = now + LOOK
            if isinstance(found, Loaded):
                if found.version != self._current.version:
                    self._say(f"{self._path}: was replaced; version {found.version} judges from now on")
                self._current, self._told = found, ""
            elif found is not None:
                self._seen, self._look_at = None, now + AGAIN
                if str(found) != self._told:
                    self._told = str(found)
                    self._say(f"{found}; version {self._current.version} continues to judge")
        if self._loading is None and now >= self._look_at and not is_remote(self._path):
            self._look_at = now + LOOK
            identity = self._identity()
            if identity is not None and identity != self._seen:
                self._seen = identity
                self._loading = threading.Thread(target=self._load_beside, name="model", daemon=True)
                self._loading.start()
        return self._current

    def _load_beside(self) -> None:
        try:
            self._next = self._load()
        except BlemishError as error:
            self._next = error
        except Exception as error:
            self._next = ModelError(f"{self._path}: cannot be loaded ({type(error).__name__})")

    def _load(self) -> Loaded:
        name = Path(self._path).name.removesuffix(".blemish")
        if is_remote(self._path):
            model, scratch = Model.load(self._path, self._runs_on.engine, device=self._runs_on.device), None
        else:
            model, scratch = self._copied()
        model = model.at(**self._rates)
        black = np.zeros((64, 64, 3), np.uint8)
        for count in (1, 2):  # one image and several have separate graphs, which are compiled now
            for _ in model.judge([black] * count):
                pass
        card = model.store.card if isinstance(model.store, Saved) else {}
        return Loaded(model, name, digest_of(card)[:12], scratch)

    def _copied(self) -> tuple[Model, Scratch]:
        """Returns the model, and the temporary folder that it was copied to."""
        origin, scratch = Path(self._path), Scratch()
        copy = scratch.path / "model"
        try:
            card = read_card(origin, "model")
            copy.mkdir()
            copy_files(origin, copy, card)
            shutil.copyfile(origin / card_name("model"), copy / card_name("model"))
            if read_card(copy, "model") != card:
                raise StorageError(f"{origin}: was replaced while it was read")
            return Model.load(copy, self._runs_on.engine, device=self._runs_on.device), scratch
        except (BlemishError, OSError) as error:
            scratch.close()
            if isinstance(error, OSError):
                place = tempfile.gettempdir()
                raise ModelError(f"{origin}: cannot be copied to {place} ({reason_of(error)}); check both") from None
            raise ModelError(str(error).replace(str(copy), str(origin))) from None

    def _identity(self) -> tuple[int, ...] | None:
        """Returns numbers that change when the folder is replaced; `None` if there is no folder."""
        try:
            folder, card = os.stat(self._path), os.stat(Path(self._path) / "model.json")
        except (OSError, ValueError):
            return None
        return folder.st_dev, folder.st_ino, card.st_ino, card.st_mtime_ns, card.st_size
