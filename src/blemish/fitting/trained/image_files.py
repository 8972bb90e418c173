"""What a detector of pixels is trained on: images, or tiles of photographs, decoded for every batch."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial
from itertools import chain, islice, tee
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from blemish.detectors import Trained
from blemish.engines import BATCH
from blemish.engines.stream import Chunk
from blemish.errors import ImageError
from blemish.fitting.trained.spots import Spotted
from blemish.images import Geometry, Location, Pixels, decode_ahead, read_image, read_tile, waiting

T = TypeVar("T")

SPOTTED = 64
"""The largest number of images that a training is judged by."""


class ImageFiles:
    """Images, or tiles of photographs, by number: those that `keep` noted, which can be read.

    A photograph is decoded again for each of its tiles.

    Args:
        paths: of the images.
        geometry: of the images.
        margins: also train on what the crop would cut off.

    Raises:
        ImageError: an image can no longer be read.
    """

    def __init__(self, paths: Sequence[Location], geometry: Geometry, *, margins: bool = False) -> None:
        self.geometry = geometry
        self._trained_on = replace(geometry, crop=None) if margins else geometry
        self._given = paths
        self._rows: Counter[int] = Counter()

    def keep(self, chunk: Chunk) -> None:
        """Notes which images came, and in how many tiles."""
        self._rows.update(chunk.indices)

    @cached_property
    def paths(self) -> list[Location]:
        """Paths of the images that can be read."""
        return [self._given[index] for index in sorted(self._rows)]

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        return np.cumsum([self._rows[index] for index in sorted(self._rows)])

    def __len__(self) -> int:
        return self._rows.total()

    @property
    def identity(self) -> dict[str, Any]:
        """Their shape, how they are cut, and a digest of their paths."""
        names = hashlib.sha256("\n".join(map(str, self.paths)).encode()).hexdigest()
        cut = {"tile": self.geometry.tile, "overlap": self.geometry.overlap}
        return {"shape": list(self.geometry.shape), **cut, "files": names}

    def batches(self, orders: Iterable[list[int]]) -> Iterator[Tensor]:
        """Yields for each list of numbers a tensor (B, 3, H, W) between 0 and 1, with margins if asked for."""
        return self._batches(orders, self._trained_on)

    def features(self, orders: Iterable[list[int]]) -> Iterator[Tensor]:
        """Yields for each list of numbers a tensor (B, 3, H, W) between 0 and 1."""
        return self._batches(orders, self.geometry)

    def _batches(self, orders: Iterable[list[int]], geometry: Geometry) -> Iterator[Tensor]:
        coming, orders = tee(orders)
        decoded = self._decoded(chain.from_iterable(coming), geometry)
        for order in orders:
            yield _tensor(np.stack([_known(image) for image in islice(decoded, len(order))]))

    def judge(self, detector: Trained, module: nn.Module, seed: int) -> Callable[[], float]:
        """Returns a function that gives how well the detector's map, at that time, finds spots on some images."""
        drawn = np.random.default_rng([seed, SPOTTED]).permutation(len(self))[:SPOTTED].tolist()
        spotted = Spotted.over([_known(image) for image in self._decoded(drawn, self.geometry)], seed)

        def judge() -> float:
            parts = (spotted.images[start : start + BATCH] for start in range(0, len(spotted.images), BATCH))
            return spotted.found(torch.cat([detector.judged_map([_tensor(part)]) for part in parts]).cpu().numpy())

        return judge

    def _decoded(self, numbers: Iterable[int], geometry: Geometry) -> Iterator[Pixels | ImageError]:
        return decode_ahead(partial(self._read, geometry=geometry), numbers, ahead=waiting(geometry.bytes, 2 * BATCH))

    def _read(self, number: int, geometry: Geometry) -> Pixels:
        index = int(np.searchsorted(self._ends, number, side="right"))
        path = self.paths[index]
        if geometry.tile is None:
            return read_image(path, geometry)
        first = int(self._ends[index - 1]) if index else 0
        return read_tile(path, number - first, geometry)


def _tensor(images: np.ndarray) -> Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


def _known(found: T | ImageError) -> T:
    if isinstance(found, ImageError):
        raise found  # it could be read before
    return found
