"""The heat map of a prediction over its image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from blemish.images import Geometry, ImageLike, Pixels
from blemish.maps import Box, in_view, outlined, overlay, view

if TYPE_CHECKING:
    from blemish.model.model import Model

LONGEST = 2048
"""Pixels on the longer side of a photograph's heat map, at most."""


def drawn(model: Model, source: ImageLike, values: NDArray[np.float32]) -> Pixels:
    """Returns the heat map over the image, with the boxes, uint8 (h, w, 3), on the model's fixed scale.

    It has the image's proportions, and as many pixels as the model's input; of a photograph cut into tiles, `LONGEST`
    on the longer side at most.

    Args:
        model: that predicted.
        source: the image: a file, its bytes, or an array.
        values: its map (H, W).

    Raises:
        ImageError: the image can no longer be read.
    """
    return draw(source, values, model.recipe.geometry, model.calibration.display, model.boxes(values))


def draw(
    source: ImageLike,
    values: NDArray[np.float32],
    geometry: Geometry,
    display: tuple[float, float],
    boxes: Sequence[Box],
) -> Pixels:
    """Returns the same picture from its parts; the boxes are in pixels of the map. Raises as `drawn` does."""
    pixels, shown = view(source, values, geometry, LONGEST)
    return outlined(overlay(pixels, shown, display), in_view(boxes, values.shape, pixels.shape))
