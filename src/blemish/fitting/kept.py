"""The features of one pass over the images, kept until all images are learned from, so that none is computed twice."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blemish.engines.stream import Chunk
from blemish.fitting.cache import FeatureCache
from blemish.images import Place


class Kept:
    """Rows of features in the order in which they came, and what each of them is.

    Args:
        memory: bytes of features that may be held in memory; if there are more, they are on disk.

    Attributes:
        digests: of the images that could be read, by index, in order.
    """

    def __init__(self, memory: int) -> None:
        self.digests: dict[int, str] = {}
        self._cache = FeatureCache(memory)
        self._images: list[int] = []
        self._places: list[Place] = []
        self._virtual: list[bool] = []

    def keep(self, chunk: Chunk) -> None:
        """Takes in the features of a batch."""
        self._cache.append(chunk.arrays)
        self._images += chunk.indices
        self._places += chunk.places
        self._virtual += chunk.virtual
        self.digests |= chunk.digests

    def rows_of(self, images: NDArray[np.int64]) -> Tensor:
        """Returns the numbers of all rows of some images, tiles and shifted copies included."""
        return torch.from_numpy(np.flatnonzero(np.isin(self._images, images)))

    def features(self, rows: Tensor) -> list[Tensor]:
        """Returns the features (n, C_l, H_l, W_l) of each layer of some rows."""
        return [torch.from_numpy(layer) for layer in self._cache.rows(rows.tolist())]

    def batches(self, rows: Tensor, size: int) -> Iterator[Chunk]:
        """Yields the rows that are not shifted copies, `size` at a time."""
        real = [row for row in rows.tolist() if not self._virtual[row]]
        for start in range(0, len(real), size):
            chosen = real[start : start + size]
            indices = [self._images[row] for row in chosen]
            yield Chunk(
                indices=indices,
                places=[self._places[row] for row in chosen] if self._places else [],
                arrays=tuple(self._cache.rows(chosen)),
                errors={},
                virtual=[False] * len(chosen),
                digests={index: self.digests[index] for index in indices},
            )
