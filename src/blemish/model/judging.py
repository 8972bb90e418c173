"""Runs images through a model's engine: their predictions, or their features."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence, Sized
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.datasets import Dataset, read_source
from blemish.engines.stream import Chunk, NotFiniteError, Scored, stream, whole
from blemish.errors import ImageError, SettingError
from blemish.images import (
    Geometry,
    Given,
    ImageLike,
    Location,
    Place,
    Remote,
    each,
    located,
    name_of,
    only,
    read_image,
    read_size,
)
from blemish.images.copies import digest_of
from blemish.images.frames import HoldsArray
from blemish.maps import Box
from blemish.model.prediction import Origin, Prediction
from blemish.progress import LOG, Progress

if TYPE_CHECKING:
    from blemish.model.model import Model

AT_HAND = (str, os.PathLike, Remote, bytes, bytearray, memoryview, Image.Image, HoldsArray, Dataset, list, tuple)
"""What is listed in full before the first image is predicted; all else, such as a generator, is read as it goes."""

Errors = Literal["raise", "keep"]

LARGER = 2
"""How many times the tiles of the photographs that calibrated one may have before it is warned of."""


def predict(
    model: Model, sources: Given | Iterable[Given] | Dataset, progress: Progress | None, errors: Errors, *, bgr: bool
) -> Iterator[Prediction]:
    """Yields one prediction for each image, in order; see `Model.predict`."""
    _check_errors(errors)
    found = _found(model, sources, bgr)
    images = list(found) if isinstance(sources, AT_HAND) else found
    predictions = judge(model, images, progress, errors)
    return predictions if model.recipe.geometry.tile is None else _warned_of_size(model, predictions)


def predict_one(model: Model, image: Given, errors: Errors, *, bgr: bool) -> Prediction:
    """Returns the prediction of one image; see `Model.predict_one`."""
    _check_errors(errors)
    source = only_image(image, bgr)
    geometry = model.recipe.geometry
    if geometry.tile is None:
        chunk = Chunk.empty()
        try:
            pixels = read_image(source, geometry)
        except ImageError as error:
            chunk.errors[0] = error
        else:
            (arrays,) = model.engine.run([np.stack([pixels])])  # a copy, which OpenVINO may write to
            chunk = Chunk([0], [], arrays, {}, [False], {0: digest_of(pixels).hex()})
        chunks: Iterable[Chunk] = [chunk]
    else:
        chunks = stream(model.engine, [source], geometry)
    (scored,) = whole(chunks, geometry)
    if scored.error is not None and errors == "raise":
        raise _refused(scored.error, name_of(source))
    return _judged(model, scored, source)


def judge(
    model: Model, images: Iterable[ImageLike], progress: Progress | None, errors: Errors = "keep"
) -> Iterator[Prediction]:
    """Yields one prediction for each image, in order.

    Raises:
        ImageError: an image cannot be scored, and `errors` is `raise`.
    """
    total = len(images) if isinstance(images, Sized) else 0
    held: dict[int, ImageLike] = {}  # images taken from the source and not yet predicted

    def taken() -> Iterator[ImageLike]:
        for index, image in enumerate(images):
            held[index] = image
            yield image

    geometry = model.recipe.geometry
    for scored in whole(stream(model.engine, taken(), geometry), geometry):
        done, image = scored.index + 1, held.pop(scored.index)
        if scored.error is not None and errors == "raise":
            raise _refused(scored.error, path_of(image) or f"image {done}")
        yield _judged(model, scored, image)
        del scored  # maps of large photographs take much memory
        if progress:
            progress("predict", done, total)


def _warned_of_size(model: Model, predictions: Iterator[Prediction]) -> Iterator[Prediction]:
    """Yields the predictions, and warns of the first photograph that is much larger than those that calibrated."""
    places = model.inside.places(model.calibration.digests)
    rows = model.inside.rows[places[places >= 0]]  # none if it was calibrated on photographs that it did not learn from
    most = int(rows.max(initial=0)) // (1 + model.recipe.copies)
    for number, prediction in enumerate(predictions, 1):
        if most and prediction.map is not None:
            tiles = model.recipe.geometry.tiling.count(*prediction.map.shape)
            if tiles > LARGER * most:
                LOG.warning(
                    "%s has %d tiles; the photographs that set the threshold have at most %d. The highest tile "
                    "decides, so expect more false alarms than stated, or calibrate on good photographs of this size "
                    "(blemish calibrate)",
                    prediction.path or f"image {number}",
                    tiles,
                    most,
                )
                most = 0
        yield prediction
        del prediction  # its map takes much memory


def features(
    model: Model, images: Given | Iterable[Given], progress: Progress | None, *, bgr: bool
) -> list[NDArray[np.float32]]:
    """Returns the features of images for each layer (N, C_l, H_l, W_l); see `Model.features`."""
    found, done = list(_found(model, images, bgr)), 0
    rows: list[list[NDArray[np.float32]]] = [[np.empty((0, *grid), np.float32)] for grid in model.recipe.grids]
    for chunk in stream(model.extractor, found, model.recipe.geometry):
        for index, error in chunk.errors.items():
            raise ImageError(path_of(found[index]) or f"image {index + 1}", error.reason)
        for layer, array in zip(rows, chunk.arrays, strict=True):
            layer.append(array)
        done += chunk.finished
        if progress:
            progress("features", done, len(found))
    return [np.concatenate(layer) for layer in rows]


def scale_to_image(
    geometry: Geometry, image: ImageLike, tile: Place | None = None
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Returns offset and scale, each for rows and columns, from the model's input to the image's own pixels.

    A place of the input plus the offset, times the scale, is the place in the image. With `tile`, the input is that
    tile of a photograph.
    """
    if tile is not None:
        scale = (geometry.tiling.side / geometry.height, geometry.tiling.side / geometry.width)
        return (tile.top / scale[0], tile.left / scale[1]), scale
    size = read_size(image)
    return geometry.margins, (size[0] / geometry.height, size[1] / geometry.width)


def only_image(image: Given, bgr: bool) -> ImageLike:
    """Returns the one image that was given. Raises `SourceError` if there is none, or more than one."""
    found = only(image, bgr=bgr)
    return located(found) if isinstance(found, str) else found


def path_of(source: ImageLike) -> Location | None:
    """Returns the path or address of an image; `None` for an array or bytes."""
    return source if isinstance(source, (Path, Remote)) else None


def _found(model: Model, sources: Given | Iterable[Given] | Dataset, bgr: bool) -> Iterator[ImageLike]:
    """Yields the images of all sources."""
    if isinstance(sources, Dataset):
        yield from (sample.path for sample in sources.test or sources.train)
        return
    for source in each(sources, bgr=bgr):
        if isinstance(source, (str, Path)):
            dataset = read_source(source, model.recipe.seed)
            yield from (sample.path for sample in dataset.test or dataset.train)
        else:
            yield source


def _judged(model: Model, scored: Scored, image: ImageLike) -> Prediction:
    calibration, geometry = model.calibration, model.recipe.geometry
    used = (model.threshold, calibration.rate)
    if scored.error is not None or scored.map is None:
        reason = scored.error.reason if scored.error else None
        return Prediction(path_of(image), math.nan, math.nan, None, *used, None, reason)
    (p_value,) = calibration.p_values([scored.score])
    boxes = model.boxes(scored.map)
    known = scored.digest in model.inside
    verdict = (scored.score, float(p_value), scored.score > model.threshold, *used)
    origin = Origin(image, geometry, calibration.display, calibration.box_level, tuple(boxes))
    in_image = tuple(_in_image(geometry, boxes, image))
    return Prediction(path_of(image), *verdict, scored.map, None, in_image, known, scored.digest, origin)


def _in_image(geometry: Geometry, boxes: Sequence[Box], image: ImageLike) -> list[Box]:
    """Returns boxes in pixels of the image, whose size differs from its map's unless it is cut into tiles."""
    if geometry.tile is not None or not boxes:
        return list(boxes)
    offset, scale = scale_to_image(geometry, image)
    return [box.moved(*offset, scale) for box in boxes]


def _check_errors(errors: str) -> None:
    if errors not in ("raise", "keep"):
        raise SettingError(f"errors={errors!r} is not known; give 'raise' or 'keep'")


def _refused(error: ImageError, name: object) -> ImageError:
    """Returns the error that ends a prediction, with the image's name."""
    kind = NotFiniteError if isinstance(error, NotFiniteError) else ImageError
    return kind(name, f"{error.reason}; errors='keep' would go on without its verdict")
