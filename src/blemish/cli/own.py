"""A detector of one's own in the command: `fit --detector module:Class`, and `--import module` for every command."""

from __future__ import annotations

import os
import sys
from importlib import import_module

from blemish.errors import SettingError

OPTION = "--import"


def look_here() -> None:
    """Lets Python find modules in the current folder too, after all other places."""
    here = os.getcwd()
    if here not in sys.path:
        sys.path.append(here)


def take_imports() -> None:
    """Imports the modules that `--import` names, and removes these words from the command line.

    Raises:
        SettingError: a module cannot be imported, or none is named.
    """
    words, left = iter(sys.argv), []
    for word in words:
        if word == "--":
            left += [word, *words]
        elif word == OPTION or word.startswith(f"{OPTION}="):
            module = next(words, "") if word == OPTION else word.removeprefix(f"{OPTION}=")
            look_here()
            try:
                import_module(module)
            except Exception as error:
                reason = f"{type(error).__name__}: {error}"
                raise SettingError(f"{OPTION} {module}: it cannot be imported ({reason})") from error
        else:
            left.append(word)
    sys.argv[:] = left
