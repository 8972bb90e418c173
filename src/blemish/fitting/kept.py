"""Keeps the features of one pass over the images, so that none is computed twice."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from blemish.engines import BATCH
from blemish.engines.stream import Chunk, tensors
from blemish.fitting.cache import FeatureCache
from blemish.images import Place

if TYPE_CHECKING:
    from torch import Tensor


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
        self._stored: list[int] = []  # the number of each row in the cache
        self._images: list[int] = []
        self._places: list[Place] = []
        self._virtual: list[bool] = []

    def keep(self, chunk: Chunk) -> None:
        """Takes in the features of a batch."""
        self._stored += range(len(self._cache), len(self._cache) + len(chunk.indices))
        self._cache.append(chunk.arrays)
        self._images += chunk.indices
        self._places += chunk.places
        self._virtual += chunk.virtual
        self.digests |= chunk.digests

    def part(self, images: Iterable[int]) -> Kept:
        """Returns the rows of some images, by index; the features are not copied."""
        chosen = set(images)
        rows = [row for row, image in enumerate(self._images) if image in chosen]
        found = Kept(0)
        found.digests = {image: digest for image, digest in self.digests.items() if image in chosen}
        found._cache = self._cache
        found._stored = [self._stored[row] for row in rows]
        found._images = [self._images[row] for row in rows]
        found._virtual = [self._virtual[row] for row in rows]
        found._places = [self._places[row] for row in rows] if self._places else []
        return found

    @property
    def is_distinct(self) -> bool:
        """Whether each row is another image: no tiles, no shifted copies."""
        return len(self.digests) == len(self._images)

    def rows_of(self, images: NDArray[np.int64]) -> Tensor:
        """Returns the numbers of all rows of some images, tiles and shifted copies included."""
        import torch

        return torch.from_numpy(np.flatnonzero(np.isin(self._images, images)))

    def features(self, rows: Tensor) -> list[Tensor]:
        """Returns the features (n, C_l, H_l, W_l) of each layer of some rows."""
        return tensors(self._cache.rows([self._stored[row] for row in rows.tolist()]))

    def chunks(self, rows: Tensor | None = None) -> Iterator[Chunk]:
        """Yields the features of these rows, or of all, in batches."""
        numbers = range(len(self._images)) if rows is None else rows.tolist()
        batches = math.ceil(len(numbers) / (2 * BATCH))
        for batch in range(batches):  # of about equal size, since small ones take as long as large ones
            chosen = list(numbers[batch * len(numbers) // batches : (batch + 1) * len(numbers) // batches])
            real = {self._images[row] for row in chosen if not self._virtual[row]}
            yield Chunk(
                indices=[self._images[row] for row in chosen],
                places=[self._places[row] for row in chosen] if self._places else [],
                arrays=tuple(self._cache.rows([self._stored[row] for row in chosen])),
                errors={},
                virtual=[self._virtual[row] for row in chosen],
                digests={image: self.digests[image] for image in real},
            )
