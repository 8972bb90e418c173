"""Engines run one torch module over many batches: `run` gives results in order, `then` appends a module."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from blemish.engines.devices import ENGINES, RunsOn, check_device, choose_engine

if TYPE_CHECKING:
    from torch import nn

__all__ = ["BATCH", "ENGINES", "Arrays", "Engine", "RunsOn", "check_device", "choose_engine"]

Arrays = tuple[NDArray[np.float32], ...]

# Images in a batch: enough that a detector's factors are read once for many; more gains nothing and takes memory.
BATCH = 32


class Engine(Protocol):
    """Runs a module. Batches are uint8 (b, H, W, 3), commonly with b = `BATCH`; each result has arrays of b rows.

    `then` returns this engine followed by a module, which takes the tuple of its results; `outputs` are the names of
    that module's results. `further` is a module that returns the same results and then more, whose names are `names`;
    `explainer` runs it. `save` writes OpenVINO graphs for images of `shape` (H, W) into a folder, and raises `OSError`
    if it cannot.
    """

    name: str

    @property
    def names(self) -> Sequence[str]: ...

    @property
    def explainer(self) -> Engine: ...

    def run(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[Arrays]: ...

    def then(
        self,
        module: nn.Module,
        outputs: Sequence[str] = (),
        further: nn.Module | None = None,
        names: Sequence[str] = (),
    ) -> Engine: ...

    def save(self, folder: Path, shape: tuple[int, int]) -> None: ...
