"""Engines run one torch module over many batches: `run` gives results in order, `then` appends a module."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from blemish.errors import SettingError, install

if TYPE_CHECKING:
    from torch import nn

__all__ = ["BATCH", "ENGINES", "Arrays", "Engine", "choose_engine"]

Arrays = tuple[NDArray[np.float32], ...]

# Images in a batch: enough that a detector's factors are read once for many; more gains nothing and takes memory.
BATCH = 32
ENGINES = ("auto", "openvino", "torch")


class Engine(Protocol):
    """Runs a module. Batches are uint8 (b, H, W, 3), commonly with b = `BATCH`; each result has arrays of b rows.

    `then` returns this engine followed by a module, which takes the tuple of its results; `outputs` names the results
    of that module. `further` is a module that gives the same results and more behind them, which `names` names; it is
    what `explainer` runs. `save` writes OpenVINO graphs for images of `shape` (H, W) into a folder; it raises `OSError`
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


def choose_engine(name: str, *, gradients: bool = False) -> str:
    """Returns the engine to use: `auto` is torch if it sees a GPU, else OpenVINO, which needs no torch.

    Args:
        name: one of `ENGINES`.
        gradients: whether the module to run takes gradients; only torch can do that.

    Raises:
        SettingError: the name is unknown, OpenVINO is asked for gradients, or torch is needed and not installed.
    """
    if name not in ENGINES:
        raise SettingError(f"no engine is called {name!r}; give one of {', '.join(ENGINES)}")
    if gradients and name == "openvino":
        raise SettingError(
            "this map needs gradients, which OpenVINO does not compute; give --engine torch, or another --map"
        )
    name = "torch" if gradients else name
    has_torch = find_spec("torch") is not None
    if name == "torch" and not has_torch:
        other = "" if gradients else ", or use --engine openvino"
        raise SettingError(f"the torch engine needs torch; {install('fit')}{other}")
    if name != "auto":
        return name
    return "torch" if has_torch and _gpu_in_sight() else "openvino"


def _gpu_in_sight() -> bool:
    """Whether torch would find a GPU, without importing torch on machines that clearly have none."""
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
