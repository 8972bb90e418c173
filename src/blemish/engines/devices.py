"""Which engine runs a graph, and on which device: `cpu` for both, `cuda` and `mps` for torch, `gpu` and `npu` for
OpenVINO.

No library is imported to look for a device that was not asked for.
"""

from __future__ import annotations

import re
from importlib.util import find_spec
from typing import NamedTuple

from blemish.errors import SettingError, install
from blemish.progress import LOG

ENGINES = ("auto", "openvino", "torch")
DEVICES = ("auto", "cpu", "cuda", "cuda:1", "mps", "gpu", "gpu:1", "npu")
"""Names of devices, those with a number as examples."""

_OWNERS = {"cuda": "torch", "mps": "torch", "gpu": "openvino", "npu": "openvino"}
_FORM = re.compile(r"(?P<kind>auto|cpu|mps|npu|(cuda|gpu)([:.](?P<number>[0-9]{1,3}))?)")


class RunsOn(NamedTuple):
    """What runs a graph.

    Attributes:
        engine: `openvino` or `torch`.
        device: as that engine names it, such as `CPU`, `GPU.1` or `cuda:1`.
    """

    engine: str
    device: str


def choose_engine(engine: str = "auto", device: str = "auto", *, gradients: bool = False) -> RunsOn:
    """Returns the engine to use and its device.

    By default it is torch if that sees a GPU, else OpenVINO on the processor, which needs no torch.

    Args:
        engine: one of `ENGINES`.
        device: `auto`, `cpu`, torch's `cuda`, `cuda:1` or `mps`, or OpenVINO's `gpu`, `gpu:1` or `npu`.
        gradients: whether the module needs gradients, which only torch can compute.

    Raises:
        SettingError: a name is unknown, engine and device do not fit together, the device is not there, gradients are
            needed from OpenVINO, or torch is needed and not installed.
    """
    if engine not in ENGINES:
        raise SettingError(f"no engine is called {engine!r}; give one of {', '.join(ENGINES)}")
    owner = _owner(device)
    if owner and engine not in {"auto", owner}:
        raise SettingError(
            f"device {device} belongs to {owner}, not {engine}; leave out --engine {engine}, or give another --device"
        )
    engine = owner or engine
    if gradients and engine == "openvino":
        raise SettingError(
            "this map needs gradients, which OpenVINO does not compute; give --engine torch, or another --map"
        )
    engine = "torch" if gradients else engine
    has_torch = find_spec("torch") is not None
    if engine == "torch" and not has_torch:
        other = "" if gradients else ", or use --engine openvino"
        raise SettingError(f"the torch engine needs torch; {install('fit')}{other}")
    if engine == "auto":
        engine = "torch" if device == "auto" and has_torch and _gpu_in_sight() else "openvino"
    running = RunsOn(engine, _torch_device(device) if engine == "torch" else _openvino_device(device))
    LOG.info("engine %s on %s", *running)
    return running


def check_device(device: str) -> None:
    """Raises `SettingError` if no device is called so, or it is not here."""
    owner = _owner(device)
    if owner:
        choose_engine(owner, device)


def devices_here() -> list[str]:
    """Returns the names of the devices that torch, if it is installed, and OpenVINO see here, `cpu` first."""
    found = ["cpu"]
    if find_spec("torch") is not None:
        found += _torch_devices()
    return found + [name.lower().replace(".", ":") for name in _openvino_devices() if name != "CPU"]


def torch_device(device: str) -> str:
    """Returns torch's device when a graph runs on `device`: the same, or `auto` if torch does not have it."""
    return device if device == "cpu" or _owner(device) == "torch" else "auto"


def _owner(device: str) -> str | None:
    """Returns the engine that a device belongs to; `None` for `auto` and `cpu`. Raises `SettingError` if unknown."""
    found = _FORM.fullmatch(device)
    if found is None:
        raise SettingError(f"no device is called {device!r}; give one of {', '.join(DEVICES)}")
    return _OWNERS.get(re.split("[:.]", device)[0])


def _torch_device(device: str) -> str:
    if device == "cpu":
        return device
    if device == "auto":
        from blemish.engines.torch_engine import best_device

        return str(best_device())
    asked = device.replace(".", ":")
    if asked not in {*_torch_devices(), *(name.partition(":")[0] for name in _torch_devices())}:
        raise _absent(device)
    return asked


def _openvino_device(device: str) -> str:
    if device in {"auto", "cpu"}:
        return "CPU"
    asked = device.upper().replace(":", ".")
    names = _openvino_devices()
    if asked not in {*names, *(name.partition(".")[0] for name in names)}:
        raise _absent(device)
    return asked


def _absent(device: str) -> SettingError:
    return SettingError(
        f"device {device} is not here; give auto, or one of those that are: {', '.join(devices_here())}"
    )


def _torch_devices() -> list[str]:
    import torch

    cuda = [f"cuda:{number}" for number in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    return cuda + (["mps"] if torch.backends.mps.is_available() else [])


def _openvino_devices() -> list[str]:
    from blemish.engines.openvino_runtime import openvino

    return list(openvino.Core().available_devices)


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
