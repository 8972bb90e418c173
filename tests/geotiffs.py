"""GeoTIFFs made on the spot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from blemish.images.georeference import KEYS, PIXEL_SCALE, TIEPOINT, TRANSFORMATION


def write(
    path: Path, keys: list[int] | None = None, size: tuple[int, int] = (8, 10), **tags: tuple[float, ...]
) -> Path:
    """A TIFF with these tags of doubles, and a directory of keys."""
    numbers = {"scale": PIXEL_SCALE, "tie": TIEPOINT, "matrix": TRANSFORMATION}
    found = ImageFileDirectory_v2()
    for name, values in tags.items():
        found[numbers[name]] = values
        found.tagtype[numbers[name]] = 12
    if keys is not None:
        found[KEYS] = tuple(keys)
        found.tagtype[KEYS] = 3
    Image.fromarray(np.zeros(size, np.uint8)).save(path, tiffinfo=found)
    return path


UTM = [1, 1, 0, 4, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32633, 3076, 0, 1, 9001]
DEGREES = [1, 1, 0, 3, 1024, 0, 1, 2, 1025, 0, 1, 1, 2048, 0, 1, 4326]
