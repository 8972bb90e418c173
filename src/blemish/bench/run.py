"""Runs a protocol: each entry on each category with each seed that is not in the results yet."""

from __future__ import annotations

import gc
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from blemish.bench.measure import Bench, Measured, detector_of, fit_and_evaluate, trains
from blemish.bench.peak import peak_bytes, reset_peak
from blemish.bench.protocol import Entry, Protocol
from blemish.bench.results import Result, append_result, check_writable, read_results
from blemish.datasets import Dataset, read_source
from blemish.errors import BlemishError, SettingError, SourceError, as_count
from blemish.evaluation import PerImage, compared
from blemish.fitting.split import images_digest
from blemish.model.provenance import now, versions
from blemish.progress import Progress

LEAST_SHARE = 1e-3
"""Of the normal images that a trained detector holds out for its threshold, or 20 if these are more: a table needs no
threshold, and the paper trains on all."""

WEIGHTS = (".safetensors", ".pth", ".pt", ".bin")
"""Suffixes of files with weights, in a folder that holds several."""


@dataclass(frozen=True)
class Options:
    """What is changed of a protocol's entries.

    Attributes:
        categories: to run on; all that are there by default.
        entries: to run, by name; all by default.
        seeds: how many for entries that draw; by default the protocol's number.
        preset: is fitted in the place of the entries.
        backbone: in the place of the paper's, with the layers of the same strides.
        weights: a file, or a folder with `<backbone>.safetensors` for each.
        download: allow timm to fetch weights.
        images: training images at most, drawn by the seed.
        size: in the place of the paper's.
        settings: of the detectors, in the place of the paper's, as far as a detector has them.
        engine: `auto`, `openvino` or `torch`.
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


def run(
    protocol: Protocol,
    root: str,
    output: str | Path,
    options: Options | None = None,
    *,
    progress: Progress | None = None,
    announce: Callable[[Result | str], None] | None = None,
) -> list[Result]:
    """Measures what is not in the results yet, appends it, and returns all results of the protocol.

    What cannot be measured, since weights or images are not there, is a result too, with the reason in `absent`; the
    next run tries it again.

    Args:
        protocol: what is run.
        root: of the data.
        output: the file of results, made if it is absent.
        options: what is changed.
        progress: called with the stage, and how many images of how many are done.
        announce: called with what is measured next, and with each new result.

    Raises:
        SourceError: there is no data set, or not the category.
        SettingError: no entry has that name, or a number is out of range.
        StorageError: the results cannot be written.
    """
    options = options or Options()
    told = announce or (lambda what: None)
    entries = chosen_entries(protocol, options)
    if options.images is not None and as_count("images", options.images) < 2:
        raise SettingError(f"{options.images} images are too few to fit; give 2 or more")
    check_writable(output)
    sources = chosen_sources(protocol, root, options.categories)
    done = {result.key: result for result in read_results(output, protocol.name) if result.absent is None}
    if protocol.reference is not None:  # first, since others are compared with it
        entries.sort(key=lambda entry: entry.name != protocol.reference)
    for category, source in sources.items():
        bench: Bench | None = None
        reference: PerImage | None = None
        for seed in range(max(_seeds(entry, options) for entry in entries)):
            for entry in (entry.on(category) for entry in entries):
                if seed >= _seeds(entry, options):
                    continue
                arguments = arguments_of(entry, options)
                former = done.get((protocol.name, entry.name, category, seed))
                if former is not None and _is_done(former, arguments, entry, protocol, options):
                    if entry.name == protocol.reference and former.images:
                        reference = PerImage.from_rows(former.images)
                    continue
                told(f"{entry.name}, {category}" + (f", seed {seed}" if entry.draws else ""))
                if bench is None or bench.seed != seed:
                    bench = Bench(_read(source, seed, options), seed, progress, options.models)
                result, per_image = _measured(protocol, entry, category, bench, arguments, options)
                if entry.name == protocol.reference:
                    reference = per_image
                elif reference is not None and per_image is not None:
                    result = replace(result, against=_plain([one.as_dict() for one in compared(per_image, reference)]))
                append_result(output, result)
                told(result)
    return read_results(output, protocol.name)


def chosen_entries(protocol: Protocol, options: Options) -> list[Entry]:
    """Returns the entries to run. Raises `SettingError` if a name is not known, or a preset and entries are given."""
    if options.seeds is not None and as_count("seeds", options.seeds) < 1:
        raise SettingError(f"seeds {options.seeds} is out of range; give 1 or more")
    if options.preset is not None:
        if options.entries:
            raise SettingError("a preset is fitted in the place of the entries; leave out one of them")
        from blemish.fitting.presets import find_preset

        find_preset(options.preset)
        return [Entry(options.preset, {"preset": options.preset}, draws=options.seeds is not None)]
    return [protocol.entry(name) for name in options.entries] or list(protocol.entries)


def chosen_sources(protocol: Protocol, root: str, wanted: Sequence[str]) -> dict[str, str]:
    """Returns the sources of the categories, in order. Raises `SourceError` if one that is wanted is not there."""
    found = protocol.sources(root)
    missing = [name for name in wanted if name not in found]
    if missing:
        raise SourceError(f"{root}: has no category {missing[0]!r}; there are {', '.join(found)}")
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
    if trains(found):
        found.setdefault("calibration_share", LEAST_SHARE)
    return {name: value for name, value in found.items() if value is not None and value is not False}


def _own(entry: Entry, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns those of the settings that the entry's detector has."""
    from blemish.detectors import DETECTORS

    return {
        name: value for name, value in settings.items() if name in DETECTORS[detector_of(entry.fit)].setting_names()
    }


def _weights(entry: Entry, options: Options) -> str | None:
    """Returns the file of an entry's weights; of a folder that of its backbone's name, or `None` if it has none."""
    if options.weights is None:
        return None
    if not options.weights.is_dir():
        return str(options.weights)
    from blemish.fitting.presets import find_preset

    preset = entry.fit.get("preset")
    name = options.backbone or entry.fit.get("backbone") or (find_preset(preset).backbone if preset else None)
    for suffix in WEIGHTS:
        file = options.weights / f"{name}{suffix}"
        if file.exists():
            return str(file)
    return None


def _is_done(former: Result, arguments: dict[str, Any], entry: Entry, protocol: Protocol, options: Options) -> bool:
    """Whether a result is of the same fit on as many images, and its model was kept if it is to be."""
    same = former.fit.get("arguments") == _plain({**arguments, **entry.view})
    keeps = options.models is not None and entry.name in protocol.pictured
    return same and former.data.get("drawn") == options.images and (former.model is not None or not keeps)


def _seeds(entry: Entry, options: Options) -> int:
    return (options.seeds or entry.seeds) if entry.draws else 1


def _read(source: str, seed: int, options: Options) -> Dataset:
    dataset = read_source(source, 0)  # one split for all seeds
    if options.images is None or options.images >= len(dataset.train):
        return dataset
    drawn = sorted(np.random.default_rng(seed).permutation(len(dataset.train))[: options.images].tolist())
    return replace(dataset, train=[dataset.train[index] for index in drawn])


def _measured(
    protocol: Protocol, entry: Entry, category: str, bench: Bench, arguments: dict[str, Any], options: Options
) -> tuple[Result, PerImage | None]:
    dataset = bench.dataset
    base = Result(
        protocol.name,
        entry.name,
        category,
        bench.seed,
        fit={"arguments": _plain({**arguments, **entry.view})},
        data={
            "source": dataset.root,
            "train": len(dataset.train),
            "test": len(dataset.test),
            "drawn": options.images,
            "digest": images_digest([sample.path for sample in (*dataset.train, *dataset.test)]),
        },
        versions={**versions(), "processor": platform.processor() or platform.machine()},
        time=now(),
    )
    gc.collect()
    reset_peak()
    try:
        found = (entry.measure or fit_and_evaluate)(bench, arguments, entry.view)
    except BlemishError as error:
        return replace(base, absent=str(error)), None
    result = replace(
        base,
        figures=_plain(found.figures),
        images=[] if found.per_image is None else _plain(found.per_image.rows()),
        seconds=found.seconds,
        peak_bytes=peak_bytes(),
        fit={**base.fit, **_described(found), "training": None if bench.training is None else str(bench.training)},
        model=_kept(found, base, options) if entry.name in protocol.pictured else None,
    )
    return result, found.per_image


def _described(found: Measured) -> dict[str, Any]:
    """Returns what was fitted: backbone, layers, size, settings and weights."""
    if found.model is None:
        return {}
    recipe = found.model.recipe
    geometry = recipe.geometry
    described: dict[str, Any] = _plain(
        {
            "detector": recipe.detector,
            "settings": recipe.settings,
            "backbone": recipe.backbone,
            "layers": list(recipe.layers),
            "size": list(geometry.shape),
            "weights": found.model.provenance.weights,
            "engine": found.model.provenance.engine,
            "images": found.model.provenance.images,
        }
    )
    return described


def _kept(found: Measured, result: Result, options: Options) -> str | None:
    if options.models is None or found.model is None:
        return None
    plain = "".join(letter if letter.isalnum() or letter in "-." else "-" for letter in "-".join(map(str, result.key)))
    path = options.models / f"{plain}.blemish"
    found.model.save(path, force=path.exists())
    return str(path.absolute())


def _plain(value: Any) -> Any:
    """Returns a value as JSON gives it back: lists for tuples, and no number that is not finite."""
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value if value is None or isinstance(value, (str, int, bool)) else str(value)
