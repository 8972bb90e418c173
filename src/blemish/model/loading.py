"""Loads a saved model, from a folder or from an address elsewhere."""

from __future__ import annotations

import time
from pathlib import Path

from blemish.errors import ModelError, StorageError, WeightsError
from blemish.model.card import read_content
from blemish.model.inside import Inside
from blemish.model.model import Model
from blemish.model.saved import Saved
from blemish.progress import LOG
from blemish.storage import Scratch, read_card
from blemish.storage.cards import reason_of
from blemish.storage.remote import fetch_folder, is_address_in_a_path, is_remote

TRIES, AGAIN = 5, 0.1
"""How many times a model is read if its folder is replaced meanwhile, and the seconds between two tries."""


def load(path: str | Path, engine: str, threads: int | None, device: str) -> Model:
    """Returns the model that `Model.save` wrote; see `Model.load`."""
    loaded = (
        _fetched(str(path), engine, threads, device)
        if is_remote(path)
        else _from_folder(Path(path), engine, threads, device)
    )
    LOG.info("loaded %s: %s, engine %s", path, loaded.recipe.detector, loaded.engine.name)
    return loaded


def _from_folder(folder: Path, engine: str, threads: int | None, device: str) -> Model:
    """Returns the model of a folder here, read again if the folder was replaced while it was read."""
    if is_address_in_a_path(folder):
        raise ModelError(f"{folder}: looks like an address; give it as text, such as 's3://bucket/model'")
    for _ in range(TRIES):
        before = _identity(folder)
        try:
            loaded = _read(folder, engine, threads, device)
        except (ModelError, StorageError, WeightsError, OSError, ValueError) as error:
            if _identity(folder) == before:
                if isinstance(error, (ModelError, StorageError, WeightsError)):
                    raise ModelError(str(error)) from None
                told = f"{folder}: cannot be read ({reason_of(error)}); check the path and its permissions"
                raise ModelError(told) from None
        else:
            if _identity(folder) == before:
                return loaded
        time.sleep(AGAIN)  # it was replaced while it was read, so its parts may be of two models
    raise ModelError(f"{folder}: was replaced again and again while it was read; load it again later")


def _fetched(url: str, engine: str, threads: int | None, device: str) -> Model:
    """Returns the model at an address, whose files are copied into a temporary folder first."""
    scratch = Scratch()
    try:
        fetch_folder(url, "model", scratch.path)
        return _read(scratch.path, engine, threads, device, scratch)
    except (ModelError, StorageError, WeightsError) as error:
        raise ModelError(str(error).replace(str(scratch.path), url)) from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{url}: cannot be read ({reason_of(error)}); try again later") from None


def _read(folder: Path, engine: str, threads: int | None, device: str, scratch: Scratch | None = None) -> Model:
    card = read_card(folder, "model")
    recipe, calibration, provenance = read_content(folder, card)
    store = Saved(folder, card, recipe, scratch)
    running, extractor = store.engines(engine, threads, device)
    if len(running.names) != calibration.typical.shape[1]:
        raise ModelError(f"{folder}: is calibrated for other layers than its graph has; fit the model again")
    inside = Inside.read(folder)
    if len(inside) and int(inside.changes.max()) >= len(provenance.changes):
        raise ModelError(f"{folder}: holds an image of a change that its model.json does not have; fit it again")
    return Model(recipe, calibration, provenance, inside, running, extractor, store)


def _identity(folder: Path) -> tuple[int, ...] | None:
    """Returns what identifies the folder at this path, so that a replaced one is noticed; `None` if there is none."""
    try:
        status = folder.stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns
