"""The heat map of a prediction over its image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from blemish.images import ImageLike, Pixels
from blemish.maps import in_view, outlined, overlay, view

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
    pixels, shown = view(source, values, model.recipe.geometry, LONGEST)
    boxes = in_view(model.boxes(values), values.shape, pixels.shape)
    return outlined(overlay(pixels, shown, model.calibration.display), boxes)
