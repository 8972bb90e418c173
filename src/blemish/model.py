"""Where the parts come together: fit on good images, calibrate on held-out ones, predict, save, load."""

from __future__ import annotations

import datetime
import errno
import platform
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from blemish.calibration import Calibration, Held, held_out_count, promised_rate
from blemish.datasets import Dataset, Sample, read_source
from blemish.engines import Engine, choose_engine
from blemish.engines.stream import stream
from blemish.errors import BadImagesError, ImageError, ModelError, SettingError, SourceError
from blemish.images import Geometry, Pixels, decode_ahead, read_image
from blemish.presets import Preset, find_preset
from blemish.storage import check_file, new_folder, read_card, write_card

if TYPE_CHECKING:
    from torch import nn

    from blemish.backbones import Backbone
    from blemish.detectors import Detector

Progress = Callable[[str, int, int], None]
"""Told the stage, and how many of how many images are done."""

Layers = Sequence[int | str]


@dataclass(frozen=True)
class Prediction:
    """What the model says of one image.

    Attributes:
        path: the file; `None` for an array.
        score: higher is more anomalous; its unit is the detector's.
        p_value: the share of normal images that score as high, as the held-out ones tell.
        is_anomaly: the score exceeds the threshold.
        map: (H, W) at the model's input size, higher where more anomalous; `None` where there is an error.
        error: why there is no score (it is then not a number), or `None`.
    """

    path: Path | None
    score: float
    p_value: float
    is_anomaly: bool
    map: NDArray[np.float32] | None = field(repr=False)
    error: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """`path, score, p_value, is_anomaly`, or `path, error`, as JSON can hold them."""
        path = None if self.path is None else str(self.path)
        if self.error is not None:
            return {"path": path, "error": self.error}
        return {"path": path, "score": self.score, "p_value": self.p_value, "is_anomaly": self.is_anomaly}


@dataclass(frozen=True)
class Recipe:
    """All that decides what a model computes, but for the images."""

    detector: str
    settings: dict[str, Any]
    backbone: str
    layers: tuple[int | str, ...]
    geometry: Geometry
    seed: int


class Model:
    """A fitted, calibrated detector. Made by `blemish.fit` or `Model.load`.

    Attributes:
        recipe: detector, backbone, layers, geometry and seed.
        calibration: held-out scores, stated rate, threshold, display scale.
        provenance: where the images and weights came from, counts, library versions.
        engine: what computes.
    """

    def __init__(
        self,
        recipe: Recipe,
        calibration: Calibration,
        provenance: dict[str, Any],
        engine: Engine,
        write: Callable[[Path], None],
    ) -> None:
        self.recipe = recipe
        self.calibration = calibration
        self.provenance = provenance
        self.engine = engine
        self._write = write

    @property
    def threshold(self) -> float:
        """The calibrated threshold: an image is anomalous above it."""
        return self.calibration.threshold

    def predict(
        self,
        sources: str | Path | Pixels | Sequence[str | Path | Pixels],
        progress: Progress | None = None,
    ) -> Iterator[Prediction]:
        """One prediction an image, in order. An image that cannot be read gives a prediction with its error.

        Args:
            sources: a source, an array, or several: images, folders, arrays (uint8 (H, W), (H, W, 3)). Of a source that
                has a test part, that part is meant.
            progress: told how far it is.

        Raises:
            SourceError: a source is missing or empty.
        """
        images: list[Path | Pixels] = []
        for source in [sources] if isinstance(sources, (str, Path, np.ndarray)) else sources:
            if isinstance(source, np.ndarray):
                images.append(source)
            else:
                dataset = read_source(source, self.recipe.seed)
                images += [sample.path for sample in dataset.test or dataset.train]
        return self._predict(images, progress)

    def _predict(self, images: Sequence[Path | Pixels], progress: Progress | None) -> Iterator[Prediction]:
        done = 0
        for chunk in stream(self.engine, images, self.recipe.geometry):
            ready: dict[int, Prediction] = {
                index: Prediction(_path(images[index]), float("nan"), float("nan"), False, None, error.reason)
                for index, error in chunk.errors.items()
            }
            if chunk.indices:
                scores = chunk.arrays[0].astype(np.float64)
                p_values = self.calibration.p_values(scores)
                for row, index in enumerate(chunk.indices):
                    ready[index] = Prediction(
                        _path(images[index]),
                        float(scores[row]),
                        float(p_values[row]),
                        bool(scores[row] > self.threshold),
                        chunk.arrays[1][row],
                    )
            for index in sorted(ready):
                yield ready[index]
            done += len(ready)
            if progress:
                progress("predict", done, len(images))

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Writes the model as a folder, whole or not at all.

        Args:
            path: the folder; its parent is made where it is absent.
            force: replace a model that is there.

        Raises:
            ModelError: the path exists and is not to be replaced, or cannot be written.
        """
        with new_folder(Path(path), force=force) as folder:
            self._write(folder)
            recipe = {**asdict(self.recipe), "layers": list(self.recipe.layers)}
            calibration = {
                "rate": self.calibration.rate,
                "threshold": self.threshold,
                "display": list(self.calibration.display),
                "scores": self.calibration.scores.tolist(),
            }
            write_card(folder, {"recipe": recipe, "calibration": calibration, "provenance": self.provenance})

    @classmethod
    def load(cls, path: str | Path, engine: str = "auto") -> Model:
        """The model that `save` wrote, with the same scores to the last bit on the same engine and machine.

        On OpenVINO neither torch nor timm is imported.

        Raises:
            ModelError: not a model, incomplete, altered, or of a newer format.
            SettingError: the engine is unknown or not installed.
        """
        folder = Path(path)
        card = read_card(folder)
        try:
            recipe = card["recipe"]
            calibration = card["calibration"]
            loaded = Recipe(
                **{**recipe, "layers": tuple(recipe["layers"]), "geometry": Geometry(**recipe["geometry"])},
            )
            low, high = calibration["display"]
            calibrated = Calibration(np.asarray(calibration["scores"], np.float64), calibration["rate"], (low, high))
            provenance = dict(card["provenance"])
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{folder}: its description is incomplete ({error}); fit the model again") from None
        running: Engine
        if choose_engine(engine) == "openvino":
            from blemish.engines.openvino_engine import OpenVINOEngine

            check_file(folder, card, "graph.bin")
            running = OpenVINOEngine.from_file(check_file(folder, card, "graph.xml"))
        else:
            from blemish.engines.torch_engine import TorchEngine

            running = TorchEngine(_restored_graph(folder, card, loaded))
        return cls(loaded, calibrated, provenance, running, partial(_copy, folder, sorted(card["files"])))


def fit(
    source: str | Path | Dataset,
    *,
    detector: str | Detector | None = None,
    backbone: str | None = None,
    layers: Layers | None = None,
    size: int | str | None = None,
    crop: int | None = None,
    preset: str | None = None,
    false_alarm_rate: float | None = None,
    calibration_share: float = 0.2,
    seed: int = 0,
    engine: str = "auto",
    weights: str | Path | None = None,
    download: bool = False,
    skip_bad: bool = False,
    progress: Progress | None = None,
) -> Model:
    """A model of the good images in `source`, in one pass over them.

    A share of the images is held out; the threshold, the p-values and the display scale come from these alone. Then
    they are taken into the model too, which makes the stated false-alarm rate a bound rather than a target: a normal
    image lies closer to a model that has seen more.

    Args:
        source: a path, `layout:PATH`, or a data set that was read; its training part is meant.
        detector: `fre` (the default), `padim` or `gaussian`, or a detector with settings of your own.
        backbone: `efficientnet_lite0` (the default), or any network of timm's that gives feature maps.
        layers: levels, or names of modules; the detector's own choice where not given.
        size: pixels, or `HxW`; 256 by default.
        crop: side of a centre crop after resizing.
        preset: a paper's name for its settings; what else is given here goes before it.
        false_alarm_rate: the rate the threshold promises; 1 % where not given, or the lowest that can be had.
        calibration_share: the share held out, at least 20 images, at most half.
        seed: of the hold-out, of the data set's split, and of PaDiM's random choice.
        engine: `auto`, `openvino` or `torch`.
        weights: a file with the backbone's weights.
        download: allow timm to fetch them.
        skip_bad: leave out images that cannot be read, rather than stop; their count is kept in the model.
        progress: told how far it is.

    Raises:
        BlemishError: of the kind that fits; its text says what was found, what was expected and what to do.
    """
    from blemish.backbones import DEFAULT, Backbone, canonical_name, find_weights, layers_of_strides
    from blemish.detectors import make_detector
    from blemish.graph import Scoring

    chosen = find_preset(preset) if preset else None
    learning: Detector
    if detector is None or isinstance(detector, str):
        learning = make_detector(*_detector_settings(detector, chosen, seed))
    else:
        learning = detector
    if learning.count:
        raise SettingError(f"this {learning.name} detector was fitted already; give a new one")
    if chosen and chosen.detector != learning.name:
        raise SettingError(f"preset {preset} is of {chosen.detector}, not of {learning.name}; leave one of them out")
    geometry = Geometry.parse(
        size if size is not None else chosen.size if chosen else 256,
        crop if crop is not None else chosen.crop if chosen and size is None else None,
    )
    name = canonical_name(backbone or (chosen.backbone if chosen else DEFAULT))
    if layers is None and chosen and canonical_name(chosen.backbone) == name:
        layers = chosen.layers
    if layers is None:
        layers = layers_of_strides(name, learning.strides)

    dataset = source if isinstance(source, Dataset) else read_source(source, seed)
    samples = dataset.train
    if len(samples) < 2:
        raise SourceError(f"{dataset.root}: has {len(samples)} image to fit; give at least 2 good images")
    order = np.random.default_rng(seed).permutation(len(samples))
    held_out = held_out_count(len(samples), calibration_share)
    promised_rate(held_out, false_alarm_rate)  # before the work, not after it
    to_fit = [samples[index] for index in order[held_out:]]
    to_calibrate = [samples[index] for index in order[:held_out]]

    tensors, origin = find_weights(name, Path(weights) if weights is not None else None, download=download)
    network = Backbone(name, layers, tensors)
    shapes = network.shapes(*geometry.shape)
    running = choose_engine(engine)
    extractor = _engine(running, geometry, network)
    bad: list[ImageError] = []

    for arrays in _outputs(extractor, "fit", to_fit, to_calibrate, geometry, bad, skip_bad, progress):
        learning.update(_tensors(arrays))
    _enough(learning.count, bad)
    held = Held()
    scoring = extractor.then(Scoring(learning, geometry.shape, with_features=True))
    for scores, maps, *features in _outputs(scoring, "calibrate", to_calibrate, [], geometry, bad, skip_bad, progress):
        held.update(scores, maps)
        learning.update(_tensors(features))
    _enough(len(held), bad)
    rate = promised_rate(len(held), false_alarm_rate)
    calibration = held.finish(rate)

    learning.compact()
    final = extractor.then(Scoring(learning, geometry.shape)).as_saved()
    recipe = Recipe(learning.name, learning.settings(), name, tuple(layers), geometry, seed)
    provenance = {
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "source": dataset.root,
        "layout": dataset.layout,
        "images": learning.count,
        "held_out": len(held),
        "skipped": len(bad),
        "asked_false_alarm_rate": false_alarm_rate,
        "weights": origin,
        "layers": [asdict(layer) for layer in shapes],
        "learned": learning.summary(),
        "engine": final.name,
        "versions": _versions(),
    }
    return Model(recipe, calibration, provenance, final, partial(_write_parts, final, network, learning, geometry))


def _detector_settings(name: str | None, preset: Preset | None, seed: int) -> tuple[str, dict[str, Any]]:
    """The detector's name and the settings that differ from its defaults."""
    from blemish.detectors import DETECTORS

    name = name or (preset.detector if preset else "fre")
    settings = dict(preset.settings) if preset and preset.detector == name else {}
    if name in DETECTORS and "seed" in DETECTORS[name].setting_names():
        settings["seed"] = seed
    return name, settings


def _outputs(
    engine: Engine,
    stage: str,
    samples: Sequence[Sample],
    later: Sequence[Sample],
    geometry: Geometry,
    bad: list[ImageError],
    skip_bad: bool,
    progress: Progress | None,
) -> Iterator[tuple[NDArray[np.float32], ...]]:
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
            yield chunk.arrays
        done += len(chunk.indices) + len(chunk.errors)
        if progress:
            progress(stage, done, len(paths))


def _all_bad(found: list[ImageError], rest: Iterable[Path], geometry: Geometry) -> BadImagesError:
    """The error that names the images found bad and those among the rest, up to ten and whether there are more."""
    for image in decode_ahead(partial(read_image, geometry=geometry), rest):
        if len(found) > 10:
            break
        if isinstance(image, ImageError):
            found.append(image)
    return BadImagesError(found, "mend them, or leave them out with --skip-bad")


def _enough(count: int, bad: list[ImageError]) -> None:
    if count == 0:
        raise BadImagesError(bad, "too few are left; give at least 2 good images")


def _engine(name: str, geometry: Geometry, module: nn.Module) -> Engine:
    if name == "torch":
        from blemish.engines.torch_engine import TorchEngine

        return TorchEngine(module)
    from blemish.engines.openvino_engine import OpenVINOEngine

    return OpenVINOEngine.from_module(module, *geometry.shape)


def _tensors(arrays: Iterable[NDArray[np.float32]]) -> list[Any]:
    import torch

    return [torch.from_numpy(array) for array in arrays]


def _write_parts(engine: Engine, network: Backbone, detector: Detector, geometry: Geometry, folder: Path) -> None:
    """`graph.xml`, `graph.bin`, and `learned.safetensors` with what was learned and the backbone's weights."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    from blemish.engines.openvino_engine import OpenVINOEngine
    from blemish.graph import Scoring, ScoringGraph

    if not isinstance(engine, OpenVINOEngine):
        graph = ScoringGraph(network.cpu(), Scoring(detector, geometry.shape))
        engine = OpenVINOEngine.from_module(graph, *geometry.shape)
    engine.save(folder / "graph.xml")
    learned = {f"detector.{name}": tensor for name, tensor in detector.tensors().items()}
    learned |= {f"backbone.{name}": tensor.cpu() for name, tensor in network.network.state_dict().items()}
    try:
        save_file(learned, folder / "learned.safetensors")
    except SafetensorError as error:
        raise OSError(errno.ENOSPC, str(error)) from error


def _restored_graph(folder: Path, card: Mapping[str, Any], recipe: Recipe) -> nn.Module:
    """The scoring graph in torch again, from what the model's folder holds alone."""
    from safetensors.torch import load_file

    from blemish.backbones import Backbone
    from blemish.detectors import make_detector
    from blemish.graph import Scoring, ScoringGraph

    tensors = load_file(check_file(folder, dict(card), "learned.safetensors"))

    def below(prefix: str) -> dict[str, Any]:
        return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}

    try:
        network = Backbone(recipe.backbone, recipe.layers, below("backbone."))
        grids = [(layer["channels"], layer["height"], layer["width"]) for layer in card["provenance"]["layers"]]
        detector = make_detector(recipe.detector, recipe.settings).restore(grids, below("detector."))
    except (KeyError, TypeError) as error:
        raise ModelError(f"{folder}: what was learned is incomplete ({error}); fit the model again") from None
    return ScoringGraph(network, Scoring(detector, recipe.geometry.shape))


def _copy(origin: Path, names: Sequence[str], folder: Path) -> None:
    for name in names:
        shutil.copyfile(origin / name, folder / name)


def _path(source: Path | Pixels) -> Path | None:
    return None if isinstance(source, np.ndarray) else source


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("blemish", "numpy", "pillow", "openvino", "torch", "timm"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
