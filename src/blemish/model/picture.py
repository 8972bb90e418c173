"""Pictures of what a model found in an image: marks on the photograph, the heat map alone, or the map's values."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.images import Geometry, ImageLike, Pixels, read_image, read_size
from blemish.images.tiling import SMALLEST
from blemish.maps import Box, heat_map, in_view, marked, view

if TYPE_CHECKING:
    from blemish.model.model import Model

LONGEST = 2048
"""Pixels on the longer side of the picture of a photograph in tiles, at most."""

LARGE = 1024
"""Pixels on the longer side of another image's picture in a file, at most."""

MAPS = {"overlay": ".jpg", "heat": ".png", "npy": ".npy"}
"""Kinds of files of a map, and how their names end."""


def drawn(model: Model, source: ImageLike, values: NDArray[np.float32], longest: int | None = None) -> Pixels:
    """Returns the image with colours, contours and boxes where it differs from good ones, uint8 (h, w, 3).

    It has the image's proportions. Colours are on the model's fixed scale, and transparent in its lower half, which
    good images do not exceed. Contours enclose what lies above the level for boxes.

    Args:
        model: that predicted.
        source: the image: a file, its bytes, or an array.
        values: its map (H, W).
        longest: the picture has the image's own pixels, but at most this many on its longer side. By default it has as
            many pixels as the model's input. The picture of a photograph in tiles always has at most `LONGEST`.

    Raises:
        ImageError: the image can no longer be read.
    """
    calibration = model.calibration
    levels = (calibration.display, calibration.box_level)
    return draw(source, values, model.recipe.geometry, *levels, model.boxes(values), longest)


def draw(
    source: ImageLike,
    values: NDArray[np.float32],
    geometry: Geometry,
    display: tuple[float, float],
    box_level: float,
    boxes: Sequence[Box],
    longest: int | None,
) -> Pixels:
    """Returns the same picture from its parts; the boxes are in pixels of the map. Raises as `drawn` does."""
    if longest is None or geometry.tile is not None:
        pixels, shown = view(source, values, geometry, LONGEST)
    else:
        pixels, (shown, boxes) = photograph(source, longest), uncropped(geometry, display[0], values, boxes)
        values = shown
    return marked(pixels, shown, display, box_level, in_view(boxes, values.shape, pixels.shape))


def photograph(source: ImageLike, longest: int) -> Pixels:
    """Returns the whole image, uint8 (h, w, 3), shrunk if its longer side has more pixels than `longest`.

    Raises:
        ImageError: it can no longer be read.
    """
    size = (source.shape[0], source.shape[1]) if isinstance(source, np.ndarray) else read_size(source)
    scale = min(1.0, longest / max(size))
    return read_image(source, Geometry(*(max(SMALLEST, round(side * scale)) for side in size)))


def uncropped(
    geometry: Geometry, bottom: float, values: NDArray[np.float32], boxes: Sequence[Box]
) -> tuple[NDArray[np.float32], Sequence[Box]]:
    """Returns a map and its boxes as they lie in the whole image; what a crop leaves out has the value `bottom`.

    Nothing changes if the model crops nothing.
    """
    if geometry.crop is None:
        return values, boxes
    down, across = geometry.margins
    whole = np.full((geometry.height, geometry.width), bottom, np.float32)
    top, left = int(down), int(across)
    whole[top : top + values.shape[0], left : left + values.shape[1]] = values
    return whole, [box.moved(top, left, (1.0, 1.0)) for box in boxes]


def map_file(model: Model, source: ImageLike, values: NDArray[np.float32], kind: str) -> bytes:
    """Returns the content of a file with the map of an image.

    Args:
        model, source, values: as in `drawn`.
        kind: `overlay`, the marked photograph as JPEG; `heat`, the heat map alone as PNG, on the model's fixed scale;
            or `npy`, the map's float32 values.

    Raises:
        ImageError: the image can no longer be read.
    """
    content = io.BytesIO()
    if kind == "npy":
        np.save(content, values)
    elif kind == "heat":
        _, shown = view(source, values, model.recipe.geometry, LONGEST)
        Image.fromarray(heat_map(shown, model.calibration.display)).save(content, "PNG")
    else:
        content.write(jpeg(drawn(model, source, values, LARGE)))
    return content.getvalue()


def jpeg(pixels: Pixels) -> bytes:
    """Returns a picture as JPEG, whose colours are kept at full resolution so that thin lines stay clear."""
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "JPEG", quality=90, subsampling=0)
    return content.getvalue()
