"""The ground truth of samples, as masks and as boxes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blemish.datasets.marks import TrueBoxes
from blemish.datasets.sample import Sample
from blemish.images import Geometry, Remote, read_mask, read_size
from blemish.maps import Box, find_boxes


def read_truth(sample: Sample, geometry: Geometry | None) -> NDArray[np.bool_]:
    """Returns where a sample is defective, bool (H, W); all false if it has no mask.

    It has the size of the sample's map: the model's input size, or a photograph's own size if it is cut into tiles.
    Without a geometry it has the size of the image.

    Raises:
        ImageError: the mask is unreadable, or of another size than its image.
    """
    if geometry is not None and geometry.tile is not None:
        geometry = None
    if sample.mask is None:
        return np.zeros(read_size(sample.path) if geometry is None else geometry.shape, bool)
    if isinstance(sample.mask, (Path, Remote)):
        return read_mask(sample.mask, sample.path, geometry)
    return sample.mask.read(sample.path, geometry)


def true_boxes(sample: Sample, truth: NDArray[np.bool_], geometry: Geometry | None) -> list[Box]:
    """Returns boxes around a sample's defects, in the pixels of its truth.

    If the data set has boxes, these are returned, even where they touch or overlap; otherwise there is one around each
    part of the mask.

    Args:
        sample: the sample.
        truth: what `read_truth` gave for it, (H, W).
        geometry: that it was read with.
    """
    if isinstance(sample.mask, TrueBoxes):
        height, width = truth.shape
        whole = geometry is None or geometry.tile is not None
        return sample.mask.placed((height, width), None if whole else geometry)
    return find_boxes(truth, 0.5, 1)
