"""The ground truth of samples."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from blemish.datasets.sample import Sample
from blemish.images import Geometry, read_mask, read_size


def read_truth(sample: Sample, geometry: Geometry) -> NDArray[np.bool_]:
    """Returns where a sample is defective, bool (H, W); nowhere if it has no mask.

    It has the size of the sample's map: the model's input size, or a photograph's own if that is cut into tiles.

    Raises:
        ImageError: the mask is unreadable, or of another size than its image.
    """
    whole = geometry.tile is not None
    if sample.mask is None:
        return np.zeros(read_size(sample.path) if whole else geometry.shape, bool)
    return read_mask(sample.mask, sample.path, None if whole else geometry)
