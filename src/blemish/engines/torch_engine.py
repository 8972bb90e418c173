"""torch, on CUDA, MPS or CPU: the reference for the other engine."""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from blemish.engines import BATCH, Arrays
from blemish.errors import SettingError

_PROCESS = os.getpid()
"""The process that loaded this module."""


def best_device() -> torch.device:
    """Returns the GPU that torch sees, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


class TorchEngine:
    """Runs a module that takes uint8 (B, H, W, 3) and returns a tuple of tensors, all with B rows."""

    name = "torch"

    def __init__(
        self,
        module: nn.Module,
        device: torch.device | None = None,
        outputs: Sequence[str] = (),
        further: nn.Module | None = None,
        names: Sequence[str] = (),
    ) -> None:
        self.device = device or best_device()
        self.module = module.to(self.device).eval()
        self.further = None if further is None else further.to(self.device).eval()
        self.outputs, self.names = outputs, names

    def then(
        self,
        module: nn.Module,
        outputs: Sequence[str] = (),
        further: nn.Module | None = None,
        names: Sequence[str] = (),
    ) -> TorchEngine:
        """Returns this engine followed by `module`, which takes the tuple of its maps; `save` alone uses the names.

        The caller's modules stay where they are, on the CPU.
        """
        own = (module, further) if self.device.type == "cpu" else copy.deepcopy((module, further))
        chains = [None if after is None else _Chain(self.module, after) for after in own]
        assert chains[0] is not None  # noqa: S101  # of the module
        return TorchEngine(chains[0], self.device, outputs, chains[1], names)

    @property
    def explainer(self) -> TorchEngine:
        """The engine with the further results, if there are any."""
        return self if self.further is None else TorchEngine(self.further, self.device)

    def save(self, folder: Path, shape: tuple[int, int]) -> None:
        """Converts copies of its modules to OpenVINO and writes these. Raises `OSError` if it cannot be written."""
        from blemish.engines.openvino_engine import OpenVINOEngine

        module, further = copy.deepcopy((self.module, self.further))  # the engine keeps its own
        module.cpu()
        if isinstance(module, _Chain):
            after = further.cpu().second if isinstance(further, _Chain) else None
            graphs = OpenVINOEngine.from_module(module.first, *shape)
            graphs = graphs.then(module.second, self.outputs, after, self.names)
        else:
            graphs = OpenVINOEngine.from_module(module, *shape)
        graphs.save(folder, shape)

    def run(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[Arrays]:
        """Yields the module's outputs for each batch, in order.

        In a process that was forked from the one that loaded torch, it runs in one thread: torch's other threads
        were not copied, and waiting for them would never end.

        Raises:
            SettingError: it was forked from a process that uses a GPU.
        """
        if os.getpid() != _PROCESS:
            if self.device.type != "cpu":
                raise SettingError(
                    f"{self.device} cannot be used in a process that was forked; start processes with "
                    'multiprocessing.get_context("spawn")'
                )
            torch.set_num_threads(1)
        for batch in batches:
            with torch.inference_mode(), _SINGLE_PRECISION:
                parts = [
                    [output.float().cpu() for output in self.module(images.to(self.device))]
                    for images in torch.split(torch.from_numpy(batch), BATCH)
                ]
                arrays = tuple(torch.cat(outputs).numpy() for outputs in zip(*parts, strict=True))
            yield arrays


class _SinglePrecision:
    """Makes CUDA compute in single precision while any thread is inside.

    By torch's default convolutions keep 10 bits of each number (TF32), and scores differ from those of other engines in
    the third digit. The setting is the process's: the first thread to enter changes it, the last to leave restores it.
    """

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        self._before: list[str] = []

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._before = [operation.fp32_precision for operation in self._operations]
                for operation in self._operations:
                    operation.fp32_precision = "ieee"
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                for operation, before in zip(self._operations, self._before, strict=True):
                    operation.fp32_precision = before

    @property
    def _operations(self) -> tuple[Any, ...]:
        return torch.backends.cudnn.conv, torch.backends.cuda.matmul  # type: ignore[attr-defined]


_SINGLE_PRECISION = _SinglePrecision()


class _Chain(nn.Module):
    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        results: tuple[Tensor, ...] = self.second(self.first(images))
        return results
