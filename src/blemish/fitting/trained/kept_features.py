"""What a detector of a backbone's features is trained on: the features, kept from the one pass over the images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from blemish.detectors import Trained
from blemish.engines.stream import Chunk
from blemish.fitting.cache import FeatureCache
from blemish.fitting.trained.image_files import ImageFiles

HELD = 64
"""How many images are held back to judge training by: a tenth of all, and this many at most."""


class KeptFeatures:
    """Features by number, without those held back to judge by.

    Args:
        cache: holds all features.
        seed: of the choice of those held back.
        judged: whether any are held back.
        decisive: what else decides the features, by name, as JSON can hold it.
        files: the images of the features, which decide them too.
        before: digests of images that the weights learned from earlier; only other images are held back.
    """

    def __init__(
        self,
        cache: FeatureCache,
        seed: int,
        judged: bool = True,
        decisive: Mapping[str, Any] | None = None,
        files: ImageFiles | None = None,
        before: frozenset[str] = frozenset(),
    ) -> None:
        self.cache, self.seed, self.judged = cache, seed, judged
        self.decisive, self.files, self.before = dict(decisive or {}), files, before
        self._images: list[int] = []  # the image of each row
        self._known: set[int] = set()

    @property
    def identity(self) -> dict[str, Any]:
        """All that decides the features."""
        return self.decisive if self.files is None else {**self.files.identity, **self.decisive}

    def keep(self, chunk: Chunk) -> None:
        """Takes in the features of a batch."""
        self.cache.append(chunk.arrays)
        if self.before:
            self._images += chunk.indices
            self._known |= {index for index, digest in chunk.digests.items() if digest in self.before}
        if self.files is not None:
            self.files.keep(chunk)

    @cached_property
    def _order(self) -> list[int]:
        """Numbers of all features, those held back first."""
        drawn = list(np.random.default_rng([self.seed, HELD]).permutation(len(self.cache)).tolist())
        return sorted(drawn, key=self._is_known) if self.before else drawn

    @property
    def _held(self) -> list[int]:
        some = self._order[: min(HELD, len(self.cache) // 10)] if self.judged else []
        return [row for row in some if not self._is_known(row)]

    def _is_known(self, row: int) -> bool:
        return bool(self.before) and self._images[row] in self._known

    @property
    def _numbers(self) -> list[int]:
        return self._order[len(self._held) :]

    def __len__(self) -> int:
        return len(self._numbers)

    def batches(self, orders: Iterable[list[int]]) -> Iterator[list[Tensor]]:
        """Yields for each list of numbers the features (B, C_l, H_l, W_l) of all layers, read one list ahead."""
        numbers = self._numbers
        rows = ([numbers[number] for number in order] for order in orders)
        first = next(rows, None)
        if first is None:
            return
        with ThreadPoolExecutor(1) as reader:
            coming = reader.submit(self._tensors, first)
            for following in rows:
                found = coming.result()
                coming = reader.submit(self._tensors, following)
                yield found
            yield coming.result()

    def features(self, orders: Iterable[list[int]]) -> Iterator[list[Tensor]]:
        """Yields the same as `batches`."""
        return self.batches(orders)

    def judge(self, detector: Trained, module: nn.Module, seed: int) -> Callable[[], float]:
        """Returns a function that gives the negative loss on those held back, or if there are none, on some others."""
        held = self._held or self._numbers[:HELD]

        def judge() -> float:
            device = next(module.parameters()).device
            losses = []
            with torch.inference_mode():
                for start in range(0, len(held), detector.batch):
                    rows = held[start : start + detector.batch]
                    found = module([layer.to(device) for layer in self._tensors(rows)])["loss"]
                    losses += [float(found)] * len(rows)
            return -float(np.mean(losses))

        return judge

    def _tensors(self, rows: list[int]) -> list[Tensor]:
        return [torch.from_numpy(layer) for layer in self.cache.rows(rows)]
