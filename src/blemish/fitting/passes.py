"""One pass of images through the engine, with bad images refused or left out, and checks on what comes out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from blemish.datasets import Sample
from blemish.engines import Engine
from blemish.engines.stream import Chunk, stream
from blemish.errors import BadImagesError, DegenerateError, ImageError
from blemish.images import Geometry, count_tiles, decode_ahead, read_image, waiting
from blemish.progress import Progress

if TYPE_CHECKING:
    pass


SAME = 1e-5
"""Features that differ by less, as a share of the largest, are those of the same picture."""


def chunks(
    engine: Engine,
    stage: str,
    samples: Sequence[Sample],
    later: Sequence[Sample],
    geometry: Geometry,
    bad: list[ImageError],
    skip_bad: bool,
    progress: Progress | None,
) -> Iterator[Chunk]:
    """The engine's outputs over the samples; images that fail go to `bad`, or end it all.

    Then the samples that are left, and those for `later`, are only decoded, so that one error names what else is bad.
    """
    paths = [sample.path for sample in samples]
    done = 0
    for chunk in stream(engine, paths, geometry):
        if chunk.errors and not skip_bad:
            first = [chunk.errors[index] for index in sorted(chunk.errors)]
            rest = paths[max([*chunk.errors, *chunk.indices]) + 1 :] + [sample.path for sample in later]
            raise _all_bad(first, rest, geometry)
        bad += chunk.errors.values()
        if chunk.indices:
            if not all(np.isfinite(array).all() for array in chunk.arrays):
                raise DegenerateError(
                    f"{paths[chunk.indices[0]]}: its features, or those of an image after it, are not finite; "
                    "are the backbone's weights damaged?"
                )
            yield chunk
        done += chunk.finished
        if progress:
            progress(stage, done, len(paths))


def _all_bad(found: list[ImageError], rest: Iterable[Path], geometry: Geometry) -> BadImagesError:
    """The error that names the images found bad and those among the rest, up to ten and whether there are more."""
    read = count_tiles if geometry.tile else read_image
    for image in decode_ahead(partial(read, geometry=geometry), rest, ahead=waiting(geometry.bytes, 32)):
        if len(found) > 10:
            break
        if isinstance(image, ImageError):
            found.append(image)
    return BadImagesError(found, "mend them, or leave them out with --skip-bad")


class Variety:
    """Whether the features of any image differ from those of the first, by more than rounding."""

    def __init__(self) -> None:
        self.count, self.found = 0, False
        self._first: list[NDArray[np.float32]] = []

    def update(self, arrays: Sequence[NDArray[np.float32]]) -> None:
        """Takes in a batch: of each layer (B, C_l, H_l, W_l)."""
        self.count += len(arrays[0])
        if self.found:
            return
        self._first = self._first or [array[:1].copy() for array in arrays]
        self.found = any(
            bool(np.abs(array - first).max() > SAME * np.abs(first).max())
            for array, first in zip(arrays, self._first, strict=True)
        )

    def check(self, root: str) -> None:
        """Raises `DegenerateError` if all images so far are the same."""
        if not self.found:
            raise DegenerateError(
                f"{root}: all {self.count} images to fit are the same picture, so nothing can be learned of how good "
                "ones differ; give different ones"
            )


def check_enough(count: int, bad: list[ImageError]) -> None:
    if count == 0:
        raise BadImagesError(bad, "too few are left; give at least 2 good images")


def tensors(arrays: Iterable[NDArray[np.float32]]) -> list[Any]:
    import torch

    return [torch.from_numpy(array) for array in arrays]
