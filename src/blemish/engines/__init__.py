"""Run one torch module over many batches: `run` gives results in their order, `then` lengthens the module."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from blemish.errors import SettingError

if TYPE_CHECKING:
    from torch import nn

__all__ = ["BATCH", "ENGINES", "Arrays", "Engine", "choose_engine"]

Arrays = tuple[NDArray[np.float32], ...]

# Images to a batch: enough to share the reading of a detector's factors; more gains nothing and takes memory.
BATCH = 32
ENGINES = ("auto", "openvino", "torch")


class Engine(Protocol):
    """What computes. Batches are uint8 (b, H, W, 3), commonly with b = `BATCH`; each result has arrays of b rows.

    `then` is this engine followed by a module of the tuple of its results; `outputs` are the names of that module's.
    `save` writes its OpenVINO graphs, for images of `shape` (H, W), into a folder, and raises `OSError` if it cannot.
    """

    name: str

    def run(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[Arrays]: ...

    def then(self, module: nn.Module, outputs: Sequence[str] = ()) -> Engine: ...

    def save(self, folder: Path, shape: tuple[int, int]) -> None: ...


def choose_engine(name: str, *, gradients: bool = False) -> str:
    """`auto` is torch where a GPU can be seen by it, else OpenVINO. A saved model on CPU needs no torch at all.

    Args:
        name: one of `ENGINES`.
        gradients: what is to run takes gradients; torch alone can do that.

    Raises:
        SettingError: an unknown name, OpenVINO asked for gradients, or torch needed where it is not installed.
    """
    if name not in ENGINES:
        raise SettingError(f"no engine is called {name!r}; give one of {', '.join(ENGINES)}")
    if gradients and name == "openvino":
        raise SettingError("this map needs gradients, which OpenVINO has not; give --engine torch, or another --map")
    name = "torch" if gradients else name
    has_torch = find_spec("torch") is not None
    if name == "torch" and not has_torch:
        other = "" if gradients else ", or use --engine openvino"
        raise SettingError(f"the torch engine needs torch; pip install 'blemish[fit]'{other}")
    if name != "auto":
        return name
    return "torch" if has_torch and _gpu_in_sight() else "openvino"


def _gpu_in_sight() -> bool:
    """Whether torch would find a GPU, without importing torch on machines that plainly have none."""
    import os
    import platform

    if platform.system() == "Darwin":
        candidate = platform.machine() == "arm64"
    else:
        candidate = (
            any(os.path.exists(device) for device in ("/dev/nvidia0", "/dev/kfd", "/dev/dxg")) or os.name == "nt"
        )
    if not candidate:
        return False
    from blemish.engines.torch_engine import best_device

    return best_device().type != "cpu"
