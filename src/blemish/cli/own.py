"""A detector of one's own in the command: `fit --detector module:Class`, and `--import module` for every command."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from importlib import import_module

from blemish.errors import SettingError


def look_here() -> None:
    """Lets Python find modules in the current folder too, after all other places."""
    here = os.getcwd()
    if here not in sys.path:
        sys.path.append(here)


def import_modules(modules: Iterable[str]) -> None:
    """Imports the modules that `--import` names.

    Raises:
        SettingError: a module cannot be imported.
    """
    for module in modules:
        look_here()
        try:
            import_module(module)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise SettingError(f"--import {module}: it cannot be imported ({reason})") from error
