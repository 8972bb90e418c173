"""Makes the frozen backbone of a fit, in an engine, and keeps it on disk for the next fit.

Importing timm and converting a network for OpenVINO take longer than computing the features of a hundred images. The
result is kept in the user's cache folder, or in the folder that `BLEMISH_CACHE` names; if that is empty, nothing is
kept. An entry's name has a digest of all that decides its content, such as the weights and the libraries' versions. A
damaged entry is made again. A cache that cannot be used, for any reason, counts as empty. Only entries of the cache are
ever deleted.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blemish.backbones import PIXELS, Layer, Normalisation
from blemish.backbones.backbone import Backbone
from blemish.backbones.levels import Levels
from blemish.backbones.pixels import PixelBackbone
from blemish.backbones.positions import resized_positions
from blemish.backbones.weights import find_weights, weights_file
from blemish.engines import Engine, RunsOn
from blemish.errors import ModelError, StorageError, WeightsError
from blemish.images import Geometry
from blemish.interrupts import hold
from blemish.progress import LOG
from blemish.storage import check_files, digest, new_folder, read_card, remove_folder, write_card
from blemish.storage.cards import card_name

if TYPE_CHECKING:
    from torch import Tensor, nn

ENTRIES = 8
"""Backbones that are kept; the one not used for longest is removed first."""

WEIGHTS = "weights.safetensors"

KIND = "backbone"
"""The kind on the card of an entry."""

FILES = {"features.xml", "features.bin", WEIGHTS}

_NAME = re.compile(r".+-[0-9a-f]{20}")


@dataclass(frozen=True)
class Extractor:
    """A backbone ready to run.

    Attributes:
        engine: uint8 images to the maps of each layer.
        asked: the layers as they were asked for: levels, or names of modules.
        layers: their shapes.
        weights: the network's parameters by name.
        origin: a line that says where the weights came from.
        normalisation: of the pixels, that of the weights; `None` of the images themselves.
    """

    engine: Engine
    asked: tuple[int | str, ...]
    layers: tuple[Layer, ...]
    weights: Mapping[str, Tensor]
    origin: str
    normalisation: Normalisation | None


def make_extractor(
    name: str,
    layers: Sequence[int | str] | None,
    strides: Sequence[int],
    geometry: Geometry,
    running: RunsOn,
    weights: Path | None = None,
    *,
    download: bool = False,
) -> Extractor:
    """Returns the backbone in an engine, from the cache if it is there.

    Args:
        name: of the backbone, timm's.
        layers: levels, or names of modules; by default those of the `strides`, see `Levels.deepest`.
        strides: of the layers that are taken by default.
        geometry: of the images.
        running: the engine and its device.
        weights: a file with the backbone's weights.
        download: allow timm to fetch them; such a backbone is neither looked for nor kept in the cache.

    Raises:
        SettingError: the network or one of its layers does not exist, or it does not take images of this size.
        WeightsError: the weights are not found, or are of another network.
    """
    if name == PIXELS:
        pixels = PixelBackbone()
        return Extractor(
            _engine(running, pixels, geometry), pixels.layers, pixels.shapes(*geometry.shape), {}, "none", None
        )
    entry = None
    if running.engine == "openvino" and (weights is not None or not download):
        entry = _entry(
            name, [f"stride {stride}" for stride in strides] if layers is None else layers, geometry, weights
        )
    if entry is not None and (found := _read(entry, running.device)) is not None:
        LOG.info("backbone %s as it was converted before: %s", name, entry)
        return found
    levels = Levels.of(name)
    levels.check_shape(*geometry.shape)
    asked = tuple(layers) if layers is not None else levels.deepest(strides)
    tensors, origin = find_weights(name, weights, download=download)
    if levels.patch is not None:
        height, width = geometry.shape
        tensors = resized_positions(tensors, (height // levels.patch, width // levels.patch))
    network = Backbone(name, asked, tensors, geometry.shape)
    engine, shapes = _engine(running, network, geometry), network.shapes(*geometry.shape)
    extractor = Extractor(engine, asked, shapes, network.network.state_dict(), origin, network.normalisation)
    if entry is not None:
        _keep(entry, extractor, geometry.shape)
    return extractor


def _engine(running: RunsOn, module: nn.Module, geometry: Geometry) -> Engine:
    if running.engine == "torch":
        import torch

        from blemish.engines.torch_engine import TorchEngine

        return TorchEngine(module, torch.device(running.device))
    from blemish.engines.openvino_engine import OpenVINOEngine

    return OpenVINOEngine.from_module(module, *geometry.shape, running.device)


def _entry(name: str, layers: Sequence[int | str], geometry: Geometry, weights: Path | None) -> Path | None:
    """Returns the folder of this backbone in the cache; `None` if nothing is kept."""
    place = os.environ.get("BLEMISH_CACHE")
    if place is None:
        from platformdirs import user_cache_path

        place = str(user_cache_path("blemish", appauthor=False))
    if not place or place.startswith("~"):  # a user without a home
        return None
    try:
        file = weights_file(name, weights)
        content = digest(file)
    except (WeightsError, OSError):
        return None  # `find_weights` will raise and say why
    decisive = {
        "backbone": name,
        "layers": list(layers),
        "shape": geometry.shape,
        "weights": [file.name, content],
        "versions": {package: version(package) for package in ("blemish", "timm", "torch", "openvino")},
    }
    key = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()
    return Path(place) / f"{name}-{key[:20]}"


def _read(entry: Path, device: str) -> Extractor | None:
    """Returns what an entry holds; `None` if it is damaged, belongs to another user, or cannot be read.

    It is copied first and then checked, so that later changes to the entry do no harm.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from blemish.engines.openvino_engine import OpenVINOEngine

    try:
        if not _is_own(entry):
            return None
        card = read_card(entry, KIND)
        if card["files"].keys() != FILES:
            return None
        engine = OpenVINOEngine.from_copy(entry, FILES, device)
        copy = engine.features.path.parent
        check_files(copy, card)
        layers = tuple(Layer(**layer) for layer in card["layers"])
        normalisation = Normalisation(**{name: tuple(values) for name, values in card["normalisation"].items()})
        with hold():  # safetensors would make an error of its own of an interrupt
            weights = load_file(copy / WEIGHTS)
        found = Extractor(engine, tuple(card["asked"]), layers, weights, card["origin"], normalisation)
    except (ModelError, StorageError, SafetensorError, OSError, KeyError, TypeError, ValueError):
        return None
    with suppress(OSError):
        os.utime(entry)  # the one not used for longest is removed first
    return found


def _keep(entry: Path, extractor: Extractor, shape: tuple[int, int]) -> None:
    """Writes an entry and removes the oldest ones. A failure is only a warning: the next fit then starts later."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        _remove_damaged(entry)
        with new_folder(entry, KIND, force=True) as folder:
            extractor.engine.save(folder, shape)
            with hold():  # safetensors would make an error of its own of an interrupt
                save_file(dict(extractor.weights), folder / WEIGHTS)
            content: dict[str, Any] = {"asked": list(extractor.asked), "origin": extractor.origin}
            content["layers"] = [asdict(layer) for layer in extractor.layers]
            if extractor.normalisation is not None:
                content["normalisation"] = asdict(extractor.normalisation)
            write_card(folder, KIND, content)
    except (ModelError, StorageError, SafetensorError, OSError) as error:
        logging.getLogger(__name__).warning(
            "the converted backbone cannot be kept in %s (%s), so the next fit starts later; set BLEMISH_CACHE to a "
            "folder that can be written, or to nothing",
            entry.parent,
            str(error).split("; ")[0].removeprefix(f"{entry}: "),
        )
        return
    with suppress(OSError):
        kept = [path for path in entry.parent.iterdir() if _NAME.fullmatch(path.name) and _is_entry(path)]
        for old in sorted(kept, key=lambda path: path.stat().st_mtime)[:-ENTRIES]:
            with suppress(StorageError, OSError):
                remove_folder(old, KIND)


def _is_entry(path: Path) -> bool:
    try:
        read_card(path, KIND, complete=False)
    except (StorageError, OSError):
        return False
    return True


def _remove_damaged(entry: Path) -> None:
    """Removes an entry that could not be used, so that it can be written again.

    It stays if it is another user's, or holds files that an entry does not have.
    """
    if not entry.is_dir() or entry.is_symlink() or not _is_own(entry):
        return
    files = list(entry.iterdir())
    if all(file.name in FILES | {card_name(KIND)} and file.is_file() and not file.is_symlink() for file in files):
        for file in files:
            file.unlink()
        entry.rmdir()


def _is_own(path: Path) -> bool:
    """Whether the folder is this user's, where the system knows users."""
    return not hasattr(os, "geteuid") or path.stat().st_uid == os.geteuid()
