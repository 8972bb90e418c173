"""What a detector of a backbone's features is trained on: these, kept from the one pass over the images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from blemish.detectors import Detector
from blemish.fitting.trained.cache import FeatureCache

HELD = 64
"""Images at most, and a tenth of all, by which a training is judged and on which it is not trained."""


class CachedFeatures:
    """Features by number, but for those held back to judge by.

    Args:
        cache: of all.
        identity: what decides them, as JSON can hold it.
        seed: of the choice of those held back.
        judged: whether any are.
    """

    def __init__(self, cache: FeatureCache, identity: Any, seed: int, judged: bool = True) -> None:
        self.cache = cache
        self.identity = identity
        order = np.random.default_rng([seed, HELD]).permutation(len(cache)).tolist()
        held = min(HELD, len(cache) // 10) if judged else 0
        self._held, self._numbers = order[:held], order[held:]

    def __len__(self) -> int:
        return len(self._numbers)

    def batches(self, orders: Iterable[list[int]]) -> Iterator[list[Tensor]]:
        """For each list of numbers the features of each layer (B, C_l, H_l, W_l); the next are read during a step."""
        rows = ([self._numbers[number] for number in order] for order in orders)
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

    def judge(self, detector: Detector, module: nn.Module, seed: int) -> Callable[[], float]:
        """The loss on those held back, or where there are too few on some of the others; higher where lower."""
        held = self._held or self._numbers[:HELD]

        def judge() -> float:
            device = next(module.parameters()).device
            losses = []
            with torch.inference_mode():
                for start in range(0, len(held), detector.settings()["batch"]):
                    rows = held[start : start + detector.settings()["batch"]]
                    found = module([layer.to(device) for layer in self._tensors(rows)])["loss"]
                    losses += [float(found)] * len(rows)
            return -float(np.mean(losses))

        return judge

    def _tensors(self, rows: list[int]) -> list[Tensor]:
        return [torch.from_numpy(layer) for layer in self.cache.rows(rows)]
