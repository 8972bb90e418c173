"""One pass over good images: learn from most of them, calibrate on the others, and hand over a model."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from blemish.array_files import file_of
from blemish.calibration import Held, held_out_count, promised_rate
from blemish.datasets import Dataset, Sample, read_source
from blemish.decoding import decode_ahead, waiting
from blemish.engines import BATCH, Engine, choose_engine
from blemish.engines.stream import Chunk, NotFiniteError, stream, whole
from blemish.errors import BadImagesError, DegenerateError, ImageError, SettingError, SourceError
from blemish.images import Geometry, read_image
from blemish.model import Learned, Model, Progress, write_parts
from blemish.model_card import Recipe
from blemish.photographs import count_tiles
from blemish.planning import Plan, make_plan, with_cache
from blemish.presets import Preset, find_preset

if TYPE_CHECKING:
    from blemish.detectors import Detector
    from blemish.extraction import Extractor
    from blemish.training.detector import Source

Layers = Sequence[int | str]

SAME = 1e-5
"""Features that differ by less, as a share of the largest, are those of the same picture."""


def fit(
    source: str | Path | Dataset,
    *,
    detector: str | Detector | None = None,
    settings: Mapping[str, Any] | None = None,
    backbone: str | None = None,
    layers: Layers | None = None,
    size: int | str | None = None,
    crop: int | None = None,
    tile: int | None = None,
    overlap: int | None = None,
    preset: str | None = None,
    false_alarm_rate: float | None = None,
    calibration_share: float = 0.2,
    seed: int = 0,
    engine: str = "auto",
    weights: str | Path | None = None,
    download: bool = False,
    skip_bad: bool = False,
    progress: Progress | None = None,
    announce: Callable[[Plan], None] | None = None,
    checkpoints: str | Path | None = None,
    resume: bool = False,
    memory: int | None = None,
) -> Model:
    """A model of the good images in `source`, in one pass over them.

    A share of the images is held out; the threshold, the p-values and the display scale come from these alone. Then
    they are taken into the model too, which makes the stated false-alarm rate a bound rather than a target: a normal
    image lies closer to a model that has seen more.

    Args:
        source: a path, `layout:PATH`, or a data set that was read; its training part is meant.
        detector: the name of one of `blemish.detectors.DETECTORS`, `fre` by default; or one of your own making.
        settings: of the detector, by name; the others keep their defaults.
        backbone: `efficientnet_lite0` (the default), or any network of timm's that gives feature maps.
        layers: levels, or names of modules; the detector's own choice where not given.
        size: pixels, or `HxW`; 256 by default, and with tiles theirs.
        crop: side of a centre crop after resizing.
        tile: cut photographs into tiles of so many of their own pixels, each of which is a sample. Photographs are held
            out whole, and the rate is one of photographs: the score of one is the largest of its tiles'.
        overlap: pixels that neighbouring tiles share, at least; a quarter of the tile by default.
        preset: a paper's name for its settings; what else is given here goes before it.
        false_alarm_rate: the rate the threshold promises; 1 % where not given, or the lowest that can be had.
        calibration_share: the share held out, at least 20 images, at most half.
        seed: of the hold-out, of the data set's split, and of PaDiM's random choice.
        engine: `auto`, `openvino` or `torch`.
        weights: a file with the backbone's weights.
        download: allow timm to fetch them.
        skip_bad: leave out images that cannot be read, rather than stop; their count is kept in the model.
        progress: told how far it is.
        announce: told what the fit will need, once that is known to be there.
        checkpoints: of a detector that is trained, a folder for its checkpoint and the log of its loss.
        resume: go on from the checkpoint there, if there is one.
        memory: bytes for the features that a detector is trained on, which are kept on disk if they take more; half of
            what is free by default.

    Raises:
        BlemishError: of the kind that fits; its text says what was found, what was expected and what to do.
    """
    from blemish.backbones import DEFAULT, PIXELS, canonical_name
    from blemish.detectors import make_detector
    from blemish.extraction import make_extractor

    chosen = find_preset(preset) if preset else None
    learning: Detector
    if detector is None or isinstance(detector, str):
        learning = make_detector(*_detector_settings(detector, chosen, seed, settings or {}))
    elif settings:
        raise SettingError(f"settings were given beside a {detector.name} detector that has its own; give one of them")
    else:
        learning = detector
    if learning.count:
        raise SettingError(f"this {learning.name} detector was fitted already; give a new one")
    if chosen and chosen.detector != learning.name:
        raise SettingError(f"preset {preset} is of {chosen.detector}, not of {learning.name}; leave one of them out")
    geometry = Geometry.parse(
        size if size is not None else tile or (chosen.size if chosen else 256),
        crop if crop is not None else chosen.crop if chosen and size is None and not tile else None,
        tile,
        overlap,
    )
    if learning.sees_pixels and (backbone or layers is not None or weights or download):
        raise SettingError(f"{learning.name} looks at the images themselves; leave out backbone, layers and weights")
    name = PIXELS if learning.sees_pixels else canonical_name(backbone or (chosen.backbone if chosen else DEFAULT))
    if layers is None and chosen and canonical_name(chosen.backbone) == name:
        layers = chosen.layers

    images = _divided(
        source if isinstance(source, Dataset) else read_source(source, seed), seed, calibration_share, false_alarm_rate
    )
    file = Path(weights) if weights is not None else None
    running = choose_engine(engine, gradients=learning.needs_gradients)
    extractor = make_extractor(name, layers, learning.strides, geometry, running, file, download=download)
    recipe = Recipe(learning.name, learning.settings(), name, extractor.asked, geometry, seed)
    folder = Path(checkpoints) if checkpoints is not None else None
    return _learned(learning, extractor, recipe, images, skip_bad, progress, announce, folder, resume, memory)


def refit(
    model: Model, detector: Detector, source: str | Path | Dataset | None = None, progress: Progress | None = None
) -> Model:
    """Another detector, or another setting, in the place of a model's: same images, features, hold-out and rate.

    Args:
        model: fitted.
        detector: not fitted yet.
        source: the images that the model was fitted on; looked for where they were then, if not given.
        progress: told how far it is.

    Raises:
        BlemishError: as `fit` does; a `SourceError` if the images are no longer there, or are others.
    """
    from blemish.backbones import Layer
    from blemish.extraction import Extractor

    told = model.provenance
    dataset = source if isinstance(source, Dataset) else read_source(source or told["source"], model.recipe.seed)
    check_images(model, dataset)
    images = _divided(dataset, model.recipe.seed, told["calibration_share"], told["asked_false_alarm_rate"])
    layers = tuple(Layer(**layer) for layer in told["layers"])
    extractor = Extractor(model.extractor, model.recipe.layers, layers, model.learned.weights, told["weights"])
    recipe = replace(model.recipe, detector=detector.name, settings=detector.settings())
    return _learned(detector, extractor, recipe, images, told["skipped"] > 0, progress)


def check_images(model: Model, dataset: Dataset) -> None:
    """Raises `SourceError` if the training part holds other images than those that the model was fitted on."""
    told = model.provenance
    if images_digest([sample.path for sample in dataset.train]) != told["images_digest"]:
        now, then = len(dataset.train), told["images"] + told["skipped"]
        raise SourceError(
            f"{dataset.root}: holds other images than the model was fitted on ({now} now, {then} then); "
            "give the images that it was fitted on"
        )


def images_digest(paths: Sequence[Path]) -> str:
    """SHA-256 of which images these are: their paths below the folder that they have in common, and the files' sizes.

    Their order changes nothing, and neither does moving them all; of an image in a file of many, that file's size
    counts. The content is not read.
    """
    whole = [path.absolute() for path in paths]
    above = len(os.path.commonprefix([path.parent.parts for path in whole]))  # noqa: RUF071 (of names, not of letters)
    files = set(map(file_of, whole))
    sizes = {file: os.path.getsize(file) if os.path.isfile(file) else None for file in files}  # some may be bad
    told = sorted(("/".join(path.parts[above:]), sizes[file_of(path)]) for path in whole)
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


@dataclass(frozen=True)
class _Images:
    """What to learn from, what to calibrate on, and the rate that is asked for."""

    dataset: Dataset
    to_fit: list[Sample]
    to_calibrate: list[Sample]
    share: float
    rate: float | None


def _divided(dataset: Dataset, seed: int, share: float, rate: float | None) -> _Images:
    """The training part, divided at random. Raises `SettingError` if the rate cannot be promised."""
    samples = dataset.train
    if len(samples) < 2:
        raise SourceError(f"{dataset.root}: has {len(samples)} image to fit; give at least 2 good images")
    order = np.random.default_rng(seed).permutation(len(samples))
    held_out = held_out_count(len(samples), share)
    promised_rate(held_out, rate)  # before the work, not after it
    chosen = [samples[index] for index in order]
    return _Images(dataset, chosen[held_out:], chosen[:held_out], share, rate)


def _learned(
    detector: Detector,
    extractor: Extractor,
    recipe: Recipe,
    images: _Images,
    skip_bad: bool,
    progress: Progress | None,
    announce: Callable[[Plan], None] | None = None,
    checkpoints: Path | None = None,
    resume: bool = False,
    memory: int | None = None,
) -> Model:
    """The pass over the images itself."""
    from blemish.graph import OUTPUTS, Scoring

    engine, geometry = extractor.engine, recipe.geometry
    if detector.trains:
        from blemish.training.detector import check_training

        check_training(detector, checkpoints, resume)
    bad: list[ImageError] = []
    grids = [(layer.channels, layer.height, layer.width) for layer in extractor.layers]
    features = sum(channels * height * width for channels, height, width in grids)
    paths = [sample.path for sample in (*images.to_fit, *images.to_calibrate)]
    which = images_digest(paths)  # now, so that what happens to them meanwhile is seen later
    plan = make_plan(
        engine,
        paths,
        geometry,
        features,
        lambda count: detector.memory(grids, count, BATCH),
    )
    plan = replace(plan, trains=detector.trains)
    if detector.trains and not detector.sees_pixels:
        share = len(images.to_fit) / len(paths)
        plan = with_cache(plan, round(4 * features * plan.tiles * share), memory)
    plan.check()
    if announce:
        announce(plan)
    cache = None
    if detector.trains and not detector.sees_pixels:
        from blemish.training.cache import FeatureCache

        cache = FeatureCache(plan.cache)
    variety = _Variety()
    for chunk in _chunks(engine, "fit", images.to_fit, images.to_calibrate, geometry, bad, skip_bad, progress):
        variety.update(chunk.arrays)
        detector.update(_tensors(chunk.arrays))
        if cache is not None:
            cache.append(chunk.arrays)
    _enough(detector.count, bad)
    if variety.count > 1:
        variety.check(images.dataset.root)
    if detector.trains:
        from blemish.training.detector import train_detector
        from blemish.training.features import CachedFeatures
        from blemish.training.images import Images

        unreadable = {error.path for error in bad}
        source: Source = Images([sample.path for sample in images.to_fit if sample.path not in unreadable], geometry)
        if cache is not None:
            decisive = [source.identity, recipe.backbone, list(recipe.layers), extractor.origin]
            source = CachedFeatures(cache, decisive, recipe.seed, detector.settings()["patience"] is not None)
        train_detector(detector, source, checkpoints, resume, progress)
    held = Held()
    scoring = Scoring(detector, geometry.shape)

    def scored() -> Iterator[Chunk]:
        for chunk in _chunks(engine, "calibrate", images.to_calibrate, [], geometry, bad, skip_bad, progress):
            variety.update(chunk.arrays)
            found = _tensors(chunk.arrays)
            yield replace(chunk, arrays=scoring.arrays(found))
            if not detector.trains:
                detector.update(found)

    for image in whole(scored(), geometry):
        if isinstance(image.error, NotFiniteError):
            raise DegenerateError(
                f"{images.to_calibrate[image.index].path}: its score is not finite, so {detector.name} cannot tell "
                "good images from others here; give images that differ more, or other settings"
            )
        if image.map is not None:
            held.update(image.score, image.map)
    _enough(len(held), bad)
    variety.check(images.dataset.root)
    calibration = held.finish(promised_rate(len(held), images.rate))

    detector.compact()
    final = engine.then(Scoring(detector, geometry.shape), OUTPUTS)
    provenance = {
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "source": images.dataset.root,
        "layout": images.dataset.layout,
        "images": len(paths) - len(bad),
        "images_digest": which,
        "held_out": len(held),
        "calibration_share": images.share,
        "skipped": len(bad),
        "asked_false_alarm_rate": images.rate,
        "weights": extractor.origin,
        "layers": [asdict(layer) for layer in extractor.layers],
        "learned": detector.summary(),
        "engine": final.name,
        "versions": _versions(),
    }
    learned = Learned(detector, extractor.weights)
    return Model(
        recipe,
        calibration,
        provenance,
        final,
        engine,
        lambda: learned,
        partial(write_parts, final, engine, learned, geometry),
    )


def _detector_settings(
    name: str | None, preset: Preset | None, seed: int, given: Mapping[str, Any]
) -> tuple[str, dict[str, Any]]:
    """The detector's name and the settings that differ from its defaults."""
    from blemish.detectors import DETECTORS

    name = name or (preset.detector if preset else "fre")
    settings = dict(preset.settings) if preset and preset.detector == name else {}
    if name in DETECTORS and "seed" in DETECTORS[name].setting_names():
        settings["seed"] = seed
    return name, {**settings, **given}


def _chunks(
    engine: Engine,
    stage: str,
    samples: Sequence[Sample],
    later: Sequence[Sample],
    geometry: Geometry,
    bad: list[ImageError],
    skip_bad: bool,
    progress: Progress | None,
) -> Iterator[Chunk]:
    """The engine's outputs over the samples; images that fail go to `bad`, or end it all.

    Then the samples that are left, and those for `later`, are only decoded, so that one error names what else is bad.
    """
    paths = [sample.path for sample in samples]
    done = 0
    for chunk in stream(engine, paths, geometry):
        if chunk.errors and not skip_bad:
            first = [chunk.errors[index] for index in sorted(chunk.errors)]
            rest = paths[max([*chunk.errors, *chunk.indices]) + 1 :] + [sample.path for sample in later]
            raise _all_bad(first, rest, geometry)
        bad += chunk.errors.values()
        if chunk.indices:
            if not all(np.isfinite(array).all() for array in chunk.arrays):
                raise DegenerateError(
                    f"{paths[chunk.indices[0]]}: its features, or those of an image after it, are not finite; "
                    "are the backbone's weights damaged?"
                )
            yield chunk
        done += chunk.finished
        if progress:
            progress(stage, done, len(paths))


def _all_bad(found: list[ImageError], rest: Iterable[Path], geometry: Geometry) -> BadImagesError:
    """The error that names the images found bad and those among the rest, up to ten and whether there are more."""
    read = count_tiles if geometry.tile else read_image
    for image in decode_ahead(partial(read, geometry=geometry), rest, ahead=waiting(geometry.bytes, 32)):
        if len(found) > 10:
            break
        if isinstance(image, ImageError):
            found.append(image)
    return BadImagesError(found, "mend them, or leave them out with --skip-bad")


class _Variety:
    """Whether the features of any image differ from those of the first, by more than rounding."""

    def __init__(self) -> None:
        self.count, self.found = 0, False
        self._first: list[NDArray[np.float32]] = []

    def update(self, arrays: Sequence[NDArray[np.float32]]) -> None:
        """Takes in a batch: of each layer (B, C_l, H_l, W_l)."""
        self.count += len(arrays[0])
        if self.found:
            return
        self._first = self._first or [array[:1].copy() for array in arrays]
        self.found = any(
            bool(np.abs(array - first).max() > SAME * np.abs(first).max())
            for array, first in zip(arrays, self._first, strict=True)
        )

    def check(self, root: str) -> None:
        """Raises `DegenerateError` if all images so far are the same."""
        if not self.found:
            raise DegenerateError(
                f"{root}: all {self.count} images to fit are the same picture, so nothing can be learned of how good "
                "ones differ; give different ones"
            )


def _enough(count: int, bad: list[ImageError]) -> None:
    if count == 0:
        raise BadImagesError(bad, "too few are left; give at least 2 good images")


def _tensors(arrays: Iterable[NDArray[np.float32]]) -> list[Any]:
    import torch

    return [torch.from_numpy(array) for array in arrays]


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("blemish", "numpy", "pillow", "openvino", "torch", "timm"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
