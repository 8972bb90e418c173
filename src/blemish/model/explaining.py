"""Explains why a model gives an image its score; `blemish.explanation` holds the mathematics and the result."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from blemish.engines.stream import NOT_FINITE, stream
from blemish.errors import DegenerateError, require
from blemish.images import Given, ImageLike, Pixels, Place, name_of, read_image, read_proportion, read_tile
from blemish.maps import LayerMap
from blemish.model.judging import only_image, path_of, scale_to_image

if TYPE_CHECKING:
    from torch import Tensor

    from blemish.explanation import Cause, Explanation
    from blemish.model.model import Model


def explain(model: Model, image: Given, components: int | str | Sequence[int] | None, *, bgr: bool) -> Explanation:
    """Returns why an image has its score; see `Model.explain`."""
    from blemish.explanation import Explanation, explain_layers, peak_of

    if components is not None:
        require("torch", of="an explanation by components", extra="fit")
    source = only_image(image, bgr)
    geometry, calibration = model.recipe.geometry, model.calibration
    place = None if geometry.tile is None else _worst_tile(model, source)
    pixels = read_image(source, geometry) if place is None else read_tile(source, place, geometry)
    batch = np.stack([pixels])
    ((scores, maps, *of_layers),) = model.engine.explainer.run([batch])
    if not (np.isfinite(scores).all() and np.isfinite(maps).all()):
        raise DegenerateError(f"{name_of(source)}: {NOT_FINITE}")
    (found,) = maps
    layers = explain_layers(
        found,
        calibration.display,
        [of_layer[0] for of_layer in of_layers],
        [LayerMap.of(name) for name in model.engine.names],
        calibration.layer_displays,
        [str(layer) for layer in model.recipe.layers],
    )
    picked, reconstruction = _components(model, batch, components, found) if find_spec("torch") else ([], None)
    offset, scale = scale_to_image(geometry, source, place)
    return Explanation(
        path=path_of(source),
        image=pixels,
        map=found,
        score=float(scores[0]),
        p_value=float(calibration.p_values(scores.astype(np.float64))[0]),
        threshold=model.threshold,
        false_alarm_rate=calibration.rate,
        boxes=model.boxes(found),
        display=calibration.display,
        peak=peak_of(found),
        shown=geometry.displayed(read_proportion(source)),
        layers=layers,
        components=picked,
        reconstruction=reconstruction,
        tile=None if place is None or geometry.tile is None else (place.top, place.left, geometry.tile),
        offset=offset,
        scale=scale,
    )


def as_pixels(images: Tensor) -> NDArray[np.uint8]:
    """Returns images (B, 3, H, W) between 0 and 1 as uint8 (B, H, W, 3)."""
    return np.asarray((255 * images.clamp(0, 1)).round().byte().permute(0, 2, 3, 1).numpy())


def _components(
    model: Model, batch: NDArray[np.uint8], asked: int | str | Sequence[int] | None, found: NDArray[np.float32]
) -> tuple[list[Cause], Pixels | None]:
    """Returns what needs torch: the components of an image's map, and its reconstruction by a VAE.

    Raises:
        SettingError: there is no such component, or the detector has none.
    """
    import torch

    from blemish.detectors import Generative
    from blemish.explanation import explain_components

    (features,) = model.extractor.run([batch])
    layers = [torch.from_numpy(layer) for layer in features]
    names, detector = [str(layer) for layer in model.recipe.layers], model.learned.detector
    picked = explain_components(model.scoring, layers, names, asked, found, model.calibration.display[0])
    made = detector.reconstruct(layers) if isinstance(detector, Generative) else None
    return picked, None if made is None else as_pixels(made)[0]


def _worst_tile(model: Model, source: ImageLike) -> Place:
    """Returns the tile of a photograph with the highest score."""
    scored: list[tuple[float, Place]] = []
    for chunk in stream(model.engine, [source], model.recipe.geometry):
        for error in chunk.errors.values():
            raise error
        scored += zip(chunk.arrays[0].tolist(), chunk.places, strict=True)
    return max(scored, key=lambda found: math.inf if math.isnan(found[0]) else found[0])[1]
