"""What a user changes in a protocol: the rows that are run, the data, and the arguments of the fits."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from blemish.backbones import DEFAULT, canonical_name
from blemish.backbones.names import architecture
from blemish.bench.measure import detector_of, trains
from blemish.bench.protocol import Entry, Protocol
from blemish.bench.record import plain
from blemish.engines import choose_engine
from blemish.errors import SettingError, SourceError, WeightsError, as_count
from blemish.storage import check_free

LEAST_SHARE = 1e-3
"""Share of the good images that a trained detector holds out for its threshold; 20 images at least.

A table needs no threshold, and the papers train on all images."""

WEIGHTS = (".safetensors", ".pth", ".pt", ".bin")
"""Suffixes of files with weights, in a folder that holds several."""


@dataclass(frozen=True)
class Options:
    """What is changed in a protocol's entries.

    Attributes:
        categories: to run on; all that are there by default.
        entries: to run, by name; all by default.
        seeds: how many for entries that draw; by default the protocol's number.
        preset: fitted instead of the entries.
        detector: fitted with its own settings instead of the entries.
        backbone: used instead of the paper's, with layers of the same strides.
        weights: a file, or a folder with `<backbone>.safetensors` for each.
        download: allow timm to fetch weights.
        images: training images at most, drawn with the seed.
        size: used instead of the paper's.
        settings: used instead of the paper's, for detectors that have them.
        engine: `auto`, `openvino` or `torch`.
        device: as in `fit`.
        models: a folder to keep the models in.
    """

    categories: Sequence[str] = ()
    entries: Sequence[str] = ()
    seeds: int | None = None
    preset: str | None = None
    backbone: str | None = None
    weights: Path | None = None
    download: bool = False
    images: int | None = None
    size: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    engine: str = "auto"
    models: Path | None = None
    detector: str | None = None
    device: str = "auto"


def chosen_entries(protocol: Protocol, options: Options) -> list[Entry]:
    """Returns the entries to run, each once.

    Raises:
        SettingError: a name is not known, there is no seed, or more than one of preset, detector and entries is given.
    """
    if options.seeds is not None and as_count("seeds", options.seeds) < 1:
        raise SettingError(f"seeds {options.seeds} is out of range; give 1 or more")
    ways = {"a preset": options.preset, "a detector": options.detector, "entries": options.entries}
    given = [way for way, value in ways.items() if value]
    if len(given) > 1:
        raise SettingError(f"{' and '.join(given)} are given; give only one of them")
    if options.detector is not None:
        from blemish.detectors import make_detector

        make_detector(options.detector)
        return [Entry(options.detector, {"detector": options.detector}, draws=options.seeds is not None)]
    if options.preset is not None:
        strides = _strides(options.preset) if options.backbone is not None else ()
        return [Entry(options.preset, {"preset": options.preset}, strides=strides, draws=options.seeds is not None)]
    return [protocol.entry(name) for name in dict.fromkeys(options.entries)] or list(protocol.entries)


def chosen_sources(protocol: Protocol, root: str, wanted: Sequence[str]) -> dict[str, str]:
    """Returns the sources of the categories, in order. Raises `SourceError` if a wanted category is not there."""
    found = protocol.sources(root)
    missing = [name for name in wanted if name not in found]
    if missing:
        raise SourceError(f"{root}: has no category {missing[0]!r}; it has {', '.join(found)}")
    return {name: found[name] for name in wanted} if wanted else found


def arguments_of(entry: Entry, options: Options) -> dict[str, Any]:
    """Returns the arguments of `fit` for an entry on a category, with what the options change."""
    found = dict(entry.fit)
    if options.settings:
        found["settings"] = {**found.get("settings", {}), **_own(entry, options.settings)}
    if options.size is not None:
        found |= {"size": options.size}
    sees_pixels = detector_of(entry.fit) in {"vae", "vae-grf"}
    if options.backbone is not None and not sees_pixels:
        found["backbone"] = options.backbone
        if entry.strides:
            from blemish.backbones.levels import layers_of_strides

            found["layers"] = layers_of_strides(options.backbone, entry.strides)
    if not sees_pixels and (options.weights is not None or options.download):
        found |= {"weights": _weights(entry, options), "download": options.download}
    if options.engine != "auto":
        found["engine"] = options.engine
    if options.device != "auto":
        found["device"] = options.device
    if trains(found):
        found.setdefault("calibration_share", LEAST_SHARE)
    return {name: value for name, value in found.items() if value is not None and value is not False}


def check_options(entries: Sequence[Entry], sources: Mapping[str, str], options: Options) -> None:
    """Checks the options now; an error would otherwise be raised after hours, or be written into each result.

    Raises:
        SettingError: an option has a value that it cannot have.
        WeightsError: the given weights are not there.
        StorageError: models cannot be kept in the folder.
    """
    from blemish.detectors import DETECTORS

    if options.images is not None and as_count("images", options.images) < 2:
        raise SettingError(f"{options.images} images are too few to fit; give 2 or more")
    choose_engine(options.engine, options.device)
    chosen = {detector_of(entry.on(category).fit) for entry in entries for category in sources}
    known = {name for detector in chosen for name in DETECTORS[detector].setting_names()}
    if unknown := sorted(set(options.settings) - known):
        raise SettingError(f"{', '.join(sorted(chosen))}: no row has a setting {unknown[0]!r}; see docs/detectors.md")
    if options.weights is not None and not os.path.exists(options.weights):
        raise WeightsError(f"{options.weights}: no such file or folder; check the path of --weights")
    for entry in entries:
        for category in sources:
            own = entry.on(category)
            fitted_with(own, arguments_of(own, options))
    if options.models is not None:
        check_free(options.models / "model.blemish", "model", force=True)


def fitted_with(entry: Entry, arguments: Mapping[str, Any], seed: int = 0) -> dict[str, Any]:
    """Returns the present settings of a fit with these arguments, under the names that a result gives them.

    Raises:
        SettingError: a name or a value is not known, or two of them contradict each other.
    """
    from blemish.fitting.choices import choose

    names = ("detector", "settings", "backbone", "layers", "size", "preset")
    choices = choose(
        **{name: arguments.get(name) for name in names},
        crop=None,
        tile=None,
        overlap=None,
        quality=None,
        weights=bool(arguments.get("weights") or arguments.get("download")),
        seed=seed,
    )
    settings = plain({**choices.detector.settings(), **entry.view})
    size = {} if choices.in_proportion else {"size": list(choices.geometry.shape)}
    return {"detector": choices.detector.name, "settings": settings, "backbone": choices.backbone, **size}


def _own(entry: Entry, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns those of the settings that the entry's detector has."""
    from blemish.detectors import DETECTORS

    return {
        name: value for name, value in settings.items() if name in DETECTORS[detector_of(entry.fit)].setting_names()
    }


def _weights(entry: Entry, options: Options) -> str | None:
    """Returns the file of an entry's weights; in a folder, the one with its network's own or published name."""
    if options.weights is None:
        return None
    if not options.weights.is_dir():
        return str(options.weights)
    from blemish.backbones.levels import pretrained_config
    from blemish.fitting.presets import find_preset

    preset = entry.fit.get("preset")
    name = str(options.backbone or entry.fit.get("backbone") or (find_preset(preset).backbone if preset else DEFAULT))
    published = PurePosixPath(urlsplit(pretrained_config(canonical_name(name)).url or "").path).name
    names = [f"{stem}{suffix}" for stem in (name, architecture(name)) for suffix in WEIGHTS]
    files = [options.weights / file for file in (*names, published) if file]
    return next((str(file) for file in files if file.is_file()), str(files[0]))


def _strides(preset: str) -> tuple[int, ...]:
    """Returns the strides of a preset's layers, so that another network's layers can be chosen by them.

    Raises:
        SettingError: there is no such preset, or a layer of it lies within a level or is a transformer's.
    """
    from blemish.backbones.levels import Levels
    from blemish.fitting.presets import find_preset

    paper = find_preset(preset)
    if not paper.layers:
        return ()
    levels = Levels.of(paper.backbone)
    places = [levels.taken(layer) for layer in paper.layers]
    if levels.patch is not None or any(isinstance(place.source, str) or place.pool != 1 for place in places):
        layers = ", ".join(map(str, paper.layers))
        raise SettingError(
            f"preset {preset} has layers that only {paper.backbone} has ({layers}); leave out --backbone"
        )
    return tuple(levels.strides[place.source[-1]] for place in places if isinstance(place.source, range))
