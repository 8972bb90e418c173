"""torch, on CUDA, MPS or CPU: the reference for the other engine."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from blemish.engines import BATCH, Arrays


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

    def __init__(self, module: nn.Module, device: torch.device | None = None, outputs: Sequence[str] = ()) -> None:
        self.device = device or best_device()
        self.module = module.to(self.device).eval()
        self.outputs = outputs

    def then(self, module: nn.Module, outputs: Sequence[str] = ()) -> TorchEngine:
        """Returns this engine followed by `module`, which takes the tuple of its maps; `save` alone uses the names.

        The caller's module stays where it is, on the CPU.
        """
        own = module if self.device.type == "cpu" else copy.deepcopy(module)
        return TorchEngine(_Chain(self.module, own), self.device, outputs)

    def save(self, folder: Path, shape: tuple[int, int]) -> None:
        """Converts copies of its modules to OpenVINO and writes these. Raises `OSError` if it cannot be written."""
        from blemish.engines.openvino_engine import OpenVINOEngine

        module = copy.deepcopy(self.module).cpu()  # the engine keeps its own
        if isinstance(module, _Chain):
            graphs = OpenVINOEngine.from_module(module.first, *shape).then(module.second, self.outputs)
        else:
            graphs = OpenVINOEngine.from_module(module, *shape)
        graphs.save(folder, shape)

    def run(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[Arrays]:
        """Yields the module's outputs for each batch, in order."""
        for batch in batches:
            with torch.inference_mode():
                parts = [
                    [output.float().cpu() for output in self.module(images.to(self.device))]
                    for images in torch.split(torch.from_numpy(batch), BATCH)
                ]
                arrays = tuple(torch.cat(outputs).numpy() for outputs in zip(*parts, strict=True))
            yield arrays


class _Chain(nn.Module):
    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        results: tuple[Tensor, ...] = self.second(self.first(images))
        return results
