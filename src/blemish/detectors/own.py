"""Detectors written by users: a class of any module that Python can import, named `module:Class`.

A module is imported only if the user named it, as an argument of `fit` or of the command. A name in a model's file
imports nothing: its class is only looked up among the modules that are imported already.
"""

from __future__ import annotations

import inspect
import sys
from importlib import import_module

from blemish.detectors.detector import Detector
from blemish.errors import ModelError, SettingError


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
