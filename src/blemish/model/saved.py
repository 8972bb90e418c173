"""What of a model is written to disk, and how it is restored."""

from __future__ import annotations

import copy
import errno
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from blemish.engines import Engine
from blemish.errors import BlemishError, ModelError
from blemish.images import Geometry
from blemish.model.recipe import LEARNED, Learned, Recipe
from blemish.storage import check_files

if TYPE_CHECKING:
    from torch import Tensor

    from blemish.detectors import Detector


def write_parts(
    engine: Engine,
    extractor: Engine,
    learned: Learned,
    geometry: Geometry,
    folder: Path,
) -> None:
    """The two graphs, and `learned.safetensors` with what was learned and the backbone's weights.

    A detector that needs gradients has no graphs.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    from blemish.detectors.scoring import OUTPUTS, Scoring
    from blemish.engines.openvino_engine import OpenVINOEngine
    from blemish.engines.torch_engine import TorchEngine

    if not learned.detector.needs_gradients:
        if isinstance(extractor, TorchEngine):
            network = copy.deepcopy(extractor.module).cpu()  # the engine keeps its own
            graphs = OpenVINOEngine.from_module(network, *geometry.shape)
            graphs = graphs.then(Scoring(learned.detector, geometry.shape), OUTPUTS)
        else:
            graphs = cast(OpenVINOEngine, engine)
        graphs.save(folder)
    tensors = {f"detector.{name}": tensor for name, tensor in learned.detector.tensors().items()}
    tensors |= {f"backbone.{name}": tensor.cpu() for name, tensor in learned.weights.items()}
    try:
        save_file(tensors, folder / LEARNED)
    except SafetensorError as error:
        raise OSError(errno.ENOSPC, str(error)) from error


def restore(folder: Path, card: Mapping[str, Any], recipe: Recipe) -> Learned:
    """What was learned, from what the model's folder holds alone."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from blemish.detectors import make_detector

    check_files(folder, {"files": {LEARNED: card["files"][LEARNED]}})  # it may be long since the model was loaded
    try:
        tensors = load_file(folder / LEARNED)
        _check_finite(tensors)
        grids = [(layer["channels"], layer["height"], layer["width"]) for layer in card["provenance"]["layers"]]
        detector = make_detector(recipe.detector, recipe.settings).restore(grids, _below(tensors, "detector."))
        _try(detector, grids, recipe.geometry.shape)
    except (SafetensorError, BlemishError, LookupError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).partition("\n")[0].partition("; ")[0] or type(error).__name__
        raise ModelError(
            f"{folder}: what was learned does not fit its description ({reason}); fit the model again"
        ) from None
    return Learned(detector, _below(tensors, "backbone."))


def _try(detector: Detector, grids: Sequence[tuple[int, int, int]], shape: tuple[int, int]) -> None:
    """Scores features of these shapes once. Raises what torch does where the tensors do not fit one another."""
    import torch

    from blemish.detectors.scoring import Scoring

    scoring = Scoring(detector, shape)
    if not detector.needs_gradients:  # which would take seconds
        scoring.arrays([torch.zeros(1, *grid) for grid in grids])


def identity_of(folder: Path) -> tuple[int, ...] | None:
    """Which folder it is that has this path; `None` if there is none. One that is replaced has another."""
    try:
        status = folder.stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _check_finite(tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            raise ValueError(f"{name} is not finite")
