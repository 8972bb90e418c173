"""Detectors written by users: a class of any module that Python can import, named `module:Class`.

A module is imported only if the user named it, as an argument of `fit` or of the command. A name in a model's file
imports nothing: its class is only looked up among the modules that are imported already.

What such a class makes is checked where blemish takes it over, so that a mistake in it is told by its name.
"""

from __future__ import annotations

import inspect
import sys
from importlib import import_module
from traceback import walk_tb
from typing import Any, TypeVar

import torch
from torch import Tensor

from blemish.detectors.detector import Detector
from blemish.detectors.head import Head
from blemish.errors import ModelError, SettingError

AnyDetector = TypeVar("AnyDetector", bound=Detector)


def import_own(name: str) -> type[Detector]:
    """Returns the class that the user named, `module:Class`, and imports its module.

    Raises:
        SettingError: there is no such module or class, it fails when it is imported, or it is no detector.
    """
    module, _, kind = name.partition(":")
    if not (kind.isidentifier() and all(part.isidentifier() for part in module.split("."))):
        raise SettingError(f"{name!r} names no class; give module:Class, such as my_detector:MeanDistance")
    try:
        import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise SettingError(f"{module} needs {error.name}, which is not installed; install it") from error
        raise SettingError(f"no module is called {module}; give its folder in PYTHONPATH, or install it") from None
    except Exception as error:
        raise SettingError(f"{module} cannot be imported ({type(error).__name__}: {error}); correct it") from error
    found = vars(sys.modules[module]).get(kind)
    if not isinstance(found, type) or not issubclass(found, Detector):
        told = f"{module} has no {kind}" if found is None else f"{kind} of {module} is not a detector class"
        raise SettingError(f"{told}; give a subclass of blemish.detectors.Detector")
    missing = sorted(found.__abstractmethods__) if inspect.isabstract(found) else []
    missing += [needed for needed in ("name", "strides") if not hasattr(found, needed)]
    if missing:
        raise SettingError(f"{name} lacks {', '.join(missing)}; docs/own-detector.md has an example")
    return found


def imported(name: str) -> type[Detector]:
    """Returns the class of this name if its module is imported already.

    Raises:
        ModelError: it is not imported, so the model that names it cannot be used.
    """
    module, _, kind = name.partition(":")
    found = vars(sys.modules[module]).get(kind) if module in sys.modules else None
    if not isinstance(found, type) or not issubclass(found, Detector):
        raise ModelError(
            f"the detector {name} is your own class, and a model's files do not hold its code; import {module} first "
            f"(in the command: --import {module}), then load the model again"
        )
    return found


def is_own(kind: type[Detector]) -> bool:
    """Whether a class of detectors is a user's own."""
    return kind.__module__.partition(".")[0] != "blemish"


def check_made(detector: AnyDetector) -> AnyDetector:
    """Returns a new detector. Raises `SettingError` if its class does not let `Detector` make its part."""
    if not hasattr(detector, "grids_"):
        raise SettingError(
            f"{_name(detector)}: its __post_init__ does not call super().__post_init__(); call it in the first line"
        )
    return detector


def check_head(detector: Detector, head: Head) -> None:
    """Raises `SettingError` unless the head of a user's own detector gives maps as `Head` says."""
    name = _name(detector)
    if not isinstance(head, Head):
        raise SettingError(f"{name}: head() gives {_told(head)}; expected a subclass of blemish.detectors.Head")
    missing = [wanted for wanted in ("grid", "parts") if not hasattr(head, wanted)]
    if missing:
        raise SettingError(f"{name}: its head has no {' and no '.join(missing)}; set {' and '.join(missing)} in it")
    features = tuple(torch.zeros(2, *grid) for grid in detector.grids_)
    with torch.inference_mode():
        whole, parts = head(features), head.layers(features)
    if not isinstance(parts, (list, tuple)) or len(parts) != len(head.parts):
        raise SettingError(f"{name}: layers gives {_told(parts)}; expected a list with a map for each of head.parts")
    for method, given in [("forward", whole), *(("layers", part) for part in parts)]:
        is_map = isinstance(given, Tensor) and given.ndim == 3 and len(given) == 2 and given.dtype == torch.float32
        if not is_map:
            raise SettingError(
                f"{name}: {method} of its head gives {_told(given)} for 2 images; expected a float32 tensor (2, h, w)"
            )


def place_in_own(error: BaseException) -> str | None:
    """Returns where in a user's own detector an error arose, such as `my_detector, line 31`; `None` if elsewhere."""
    own = {kind.__module__ for kind in _subclasses(Detector) if is_own(kind)}
    places = [(frame.f_globals.get("__name__"), line) for frame, line in walk_tb(error.__traceback__)]
    return next((f"{module}, line {line}" for module, line in reversed(places) if module in own), None)


def _subclasses(kind: type[Any]) -> list[type[Any]]:
    direct: list[type[Any]] = kind.__subclasses__()
    return [found for one in direct for found in (one, *_subclasses(one))]


def _name(detector: Detector) -> str:
    kind = type(detector)
    return f"{kind.__module__}:{kind.__qualname__}"


def _told(value: object) -> str:
    """Returns what a value is, in words."""
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)} of {str(value.dtype).removeprefix('torch.')}"
    return f"a {type(value).__name__} of {len(value)}" if isinstance(value, (list, tuple)) else type(value).__name__
