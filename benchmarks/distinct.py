"""As many different images as a measurement needs, since the same picture counts once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

BLOCK, BITS = 8, 8
"""Side of a block, in pixels, and how many blocks in the first rows tell one repetition from another."""


def write_distinct(folder: Path, data: str, count: int) -> Path:
    """Writes `count` images of MTD to train on as JPEG files; a repeated one has the number of its repeat in blocks."""
    from blemish.datasets import read_source

    folder.mkdir()
    paths = [sample.path for sample in read_source(f"mtd:{data}/mtd", 0).train]
    if count > len(paths) << BITS:
        raise ValueError(f"{count} images cannot be told apart; give {len(paths) << BITS} at most")
    for index in range(count):
        pixels = np.array(Image.open(paths[index % len(paths)]).convert("L"))
        again = index // len(paths)
        for bit in range(BITS):
            if again >> bit & 1:
                block = pixels[:BLOCK, BLOCK * bit : BLOCK * (bit + 1)]
                block[:] = np.where(block < 128, block + 64, block - 64)
        Image.fromarray(pixels).save(folder / f"{index:06d}.jpg", quality=95)
    return folder
