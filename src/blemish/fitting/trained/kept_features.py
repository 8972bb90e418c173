"""What a detector of a backbone's features is trained on: these, kept from the one pass over the images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from blemish.detectors import Trained
from blemish.engines.stream import Chunk
from blemish.fitting.trained.cache import FeatureCache
from blemish.fitting.trained.image_files import ImageFiles

HELD = 64
"""Images at most, and a tenth of all, by which a training is judged and on which it is not trained."""


class KeptFeatures:
    """Features by number, but for those held back to judge by.

    Args:
        cache: of all.
        seed: of the choice of those held back.
        judged: whether any are.
        decisive: what else decides them, as JSON can hold it.
        files: of the images that they are of, which decide them too.
    """

    def __init__(
        self, cache: FeatureCache, seed: int, judged: bool = True, decisive: Any = None, files: ImageFiles | None = None
    ) -> None:
        self.cache, self.seed, self.judged = cache, seed, judged
        self.decisive, self.files = decisive, files

    @property
    def identity(self) -> Any:
        """All that decides the features."""
        return self.decisive if self.files is None else [self.files.identity, *self.decisive]

    def keep(self, chunk: Chunk) -> None:
        """Takes in the features of a batch."""
        self.cache.append(chunk.arrays)
        if self.files is not None:
            self.files.keep(chunk)

    @cached_property
    def _order(self) -> list[int]:
        """Numbers of all features, those held back first."""
        return list(np.random.default_rng([self.seed, HELD]).permutation(len(self.cache)).tolist())

    @property
    def _held(self) -> list[int]:
        return self._order[: min(HELD, len(self.cache) // 10)] if self.judged else []

    @property
    def _numbers(self) -> list[int]:
        return self._order[len(self._held) :]

    def __len__(self) -> int:
        return len(self._numbers)

    def batches(self, orders: Iterable[list[int]]) -> Iterator[list[Tensor]]:
        """For each list of numbers the features of each layer (B, C_l, H_l, W_l); the next are read during a step."""
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

    def judge(self, detector: Trained, module: nn.Module, seed: int) -> Callable[[], float]:
        """The loss on those held back, or where there are too few on some of the others; higher where lower."""
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
