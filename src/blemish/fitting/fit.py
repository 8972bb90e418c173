"""One pass over good images: learn from most of them, calibrate on the others, and hand over a model."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blemish.calibration import Held, promised_rate
from blemish.datasets import Dataset, read_source
from blemish.engines import BATCH, choose_engine
from blemish.engines.stream import Chunk, NotFiniteError, whole
from blemish.errors import DegenerateError, ImageError, SettingError
from blemish.fitting.passes import Variety, check_enough, chunks, tensors
from blemish.fitting.plan import Plan, make_plan, with_cache
from blemish.fitting.presets import Preset, find_preset
from blemish.fitting.split import Division, divide, images_digest
from blemish.images import Geometry
from blemish.model import Learned, Model, Recipe
from blemish.model.saved import write_parts
from blemish.progress import Progress

if TYPE_CHECKING:
    from blemish.detectors import Detector
    from blemish.engines.extractor import Extractor
    from blemish.fitting.trained.learn import Source

Layers = Sequence[int | str]


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
    from blemish.engines.extractor import make_extractor

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

    images = divide(
        source if isinstance(source, Dataset) else read_source(source, seed), seed, calibration_share, false_alarm_rate
    )
    file = Path(weights) if weights is not None else None
    running = choose_engine(engine, gradients=learning.needs_gradients)
    extractor = make_extractor(name, layers, learning.strides, geometry, running, file, download=download)
    recipe = Recipe(learning.name, learning.settings(), name, extractor.asked, geometry, seed)
    folder = Path(checkpoints) if checkpoints is not None else None
    return _learned(learning, extractor, recipe, images, skip_bad, progress, announce, folder, resume, memory)


def _learned(
    detector: Detector,
    extractor: Extractor,
    recipe: Recipe,
    images: Division,
    skip_bad: bool,
    progress: Progress | None,
    announce: Callable[[Plan], None] | None = None,
    checkpoints: Path | None = None,
    resume: bool = False,
    memory: int | None = None,
) -> Model:
    """The pass over the images itself."""
    from blemish.detectors.scoring import OUTPUTS, Scoring

    engine, geometry = extractor.engine, recipe.geometry
    if detector.trains:
        from blemish.fitting.trained.learn import check_training

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
        from blemish.fitting.trained.cache import FeatureCache

        cache = FeatureCache(plan.cache)
    variety = Variety()
    for chunk in chunks(engine, "fit", images.to_fit, images.to_calibrate, geometry, bad, skip_bad, progress):
        variety.update(chunk.arrays)
        detector.update(tensors(chunk.arrays))
        if cache is not None:
            cache.append(chunk.arrays)
    check_enough(detector.count, bad)
    if variety.count > 1:
        variety.check(images.dataset.root)
    if detector.trains:
        from blemish.fitting.trained.image_files import Images
        from blemish.fitting.trained.kept_features import CachedFeatures
        from blemish.fitting.trained.learn import train_detector

        unreadable = {error.path for error in bad}
        source: Source = Images([sample.path for sample in images.to_fit if sample.path not in unreadable], geometry)
        if cache is not None:
            decisive = [source.identity, recipe.backbone, list(recipe.layers), extractor.origin]
            source = CachedFeatures(cache, decisive, recipe.seed, detector.settings()["patience"] is not None)
        train_detector(detector, source, checkpoints, resume, progress)
    held = Held()
    scoring = Scoring(detector, geometry.shape)

    def scored() -> Iterator[Chunk]:
        for chunk in chunks(engine, "calibrate", images.to_calibrate, [], geometry, bad, skip_bad, progress):
            variety.update(chunk.arrays)
            found = tensors(chunk.arrays)
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
    check_enough(len(held), bad)
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


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("blemish", "numpy", "pillow", "openvino", "torch", "timm"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
