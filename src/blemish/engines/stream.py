"""Images into an engine and results out, in order: the next batches are decoded while the current ones are computed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blemish.engines import BATCH, Arrays, Engine
from blemish.errors import ImageError
from blemish.images import Geometry, Pixels, decode_ahead, read_image


@dataclass(frozen=True)
class Chunk:
    """The results of one batch: for each row the index of its image; and the images that failed since the last."""

    indices: list[int]
    arrays: Arrays
    errors: dict[int, ImageError]


def stream(engine: Engine, sources: Sequence[Path | Pixels], geometry: Geometry, batch: int = BATCH) -> Iterator[Chunk]:
    """Every source exactly once, as a row of a chunk or as an error of one, in order of their indices."""
    waiting: list[tuple[list[int], dict[int, ImageError]]] = []
    errors: dict[int, ImageError] = {}

    def batches() -> Iterator[NDArray[np.uint8]]:
        nonlocal errors
        indices: list[int] = []
        images: list[Pixels] = []
        for index, image in enumerate(decode_ahead(partial(read_image, geometry=geometry), sources, ahead=2 * BATCH)):
            if isinstance(image, ImageError):
                errors[index] = image
                continue
            indices.append(index)
            images.append(image)
            if len(images) == BATCH:
                waiting.append((indices, errors))
                yield np.stack(images)
                indices, images, errors = [], [], {}
        if images:
            waiting.append((indices, errors))
            errors = {}
            yield np.stack(images)

    for arrays in engine.run(batches()):
        indices, failed = waiting.pop(0)
        yield Chunk(indices, arrays, failed)
    if errors:
        yield Chunk([], (), errors)
