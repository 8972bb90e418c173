"""A file with the options of `fit`, as TOML: `--config` reads it, `--print-config` writes it.

A key is an option's name without its dashes, and the value is what follows the option on the command line. A flag is
`true` or `false`. `set` is a table of the detector's settings, in which "null" means none. An option that may be
repeated is a list; any other list is joined by commas.
"""

from __future__ import annotations

import difflib
import json
import math
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from blemish.errors import SettingError
from blemish.storage.cards import reason_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MOST_BYTES = 1 << 20
"""Bytes of a file, at most."""

OWN = {"config", "print-config", "help", "json", "quiet", "verbose", "debug"}
"""Options that are not in the file, because they do not change the model."""

TABLE = "set"
"""The key of the detector's settings."""

NULL = "null"
"""Stands for a setting that is `None`, which TOML does not have."""

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def read_config(context: typer.Context, path: Path | None) -> Path | None:
    """Makes the values in a file the defaults of the command's options; returns the path.

    Raises:
        SettingError: the file cannot be read, is not TOML, has a key that is no option, or a value of another form.
    """
    if path is not None:
        keys = {key_of(option): option for option in context.command.params if key_of(option) not in OWN}
        context.default_map = dict(_taken(path, keys))
    return path


def config_settings(context: typer.Context) -> list[str]:
    """Returns the detector's settings in the file, as `NAME=VALUE`s."""
    return list((context.default_map or {}).get("settings", []))


def written(options: Mapping[str, Any], comments: Mapping[str, str]) -> str:
    """Returns options by name as TOML; one that is `None` becomes a comment that says what decides it.

    Raises:
        SettingError: TOML cannot hold a value, such as a file name that is not text.
    """
    lines, table = [], []
    for name, value in options.items():
        if value is None:
            lines.append(f"# {name}: {comments.get(name, 'none')}")
        elif name == TABLE:
            table = ["", f"[{TABLE}]", *(f"{_written_key(key)} = {_value(key, item)}" for key, item in value.items())]
        else:
            lines.append(f"{name} = {_value(name, value)}")
    return "\n".join([*lines, *table])


def _taken(path: Path, keys: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Returns the values of a file with the names of the command's parameters, each as it would be typed."""
    found: list[tuple[str, Any]] = []
    for key, value in _read(path).items():
        name = key.replace("_", "-")
        if name not in keys:
            near = difflib.get_close_matches(name, keys, 1)
            advice = f"did you mean {near[0]}?" if near else f"give {', '.join(sorted(keys))}"
            raise SettingError(f"{path}: fit has no option {key!r}; {advice}")
        option = keys[name]
        if any(option.name == taken for taken, _ in found):
            raise SettingError(f"{path}: has {name} twice; leave out one of them")
        if name == TABLE:
            if not isinstance(value, dict):
                raise SettingError(f"{path}: {key} is {value!r}; give a table, [{TABLE}], with a line for each setting")
            found.append((option.name, [f"{setting}={_as_json(path, setting, of)}" for setting, of in value.items()]))
        elif getattr(option, "is_flag", False):
            if not isinstance(value, bool):
                raise SettingError(f"{path}: {key} is {value!r}; give true or false")
            found.append((option.name, value))
        elif getattr(option, "multiple", False):
            found.append((option.name, [_typed(path, key, part) for part in _parts(value)]))
        else:
            found.append((option.name, ",".join(_typed(path, key, part) for part in _parts(value))))
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        raise SettingError(f"{path}: cannot be read ({reason_of(error)}); check the path of --config") from None
    if len(content) > MOST_BYTES:
        raise SettingError(f"{path}: has more than {MOST_BYTES >> 20} MiB; give a file of options")
    try:
        return tomllib.loads(content.decode("utf-8-sig"))  # Windows puts a mark before the text
    except UnicodeDecodeError:
        raise SettingError(f"{path}: is not a text in UTF-8; save it as one") from None
    except (ValueError, RecursionError) as error:  # not TOML, or nested too deeply
        raise SettingError(f"{path}: is not TOML ({reason_of(error)}); write lines such as size = 256") from None


def _parts(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _typed(path: Path, key: str, value: Any) -> str:
    """Returns a value as it would be typed."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise SettingError(f"{path}: {key} is {value!r}; give text or a number")
    text = value if isinstance(value, str) else repr(value)
    if "\0" in text:
        raise SettingError(f"{path}: {key} holds a zero byte; leave it out")
    return text


def _as_json(path: Path, key: str, value: Any) -> str:
    if value == NULL:
        return NULL
    try:
        return json.dumps(value)
    except (TypeError, ValueError):
        raise SettingError(f"{path}: {TABLE}.{key} is {value!r}; give a number, text, true, false or a list") from None


def key_of(option: Any) -> str:
    """Returns the key of a command's parameter: its longest option without dashes, or the argument's name."""
    return str(max(option.opts, key=len)).lstrip("-").replace("_", "-")


def _written_key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _value(key, key)


def _value(name: str, value: Any) -> str:
    """Returns a value as TOML."""
    if value is None:
        return f'"{NULL}"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # inf, -inf or nan, as TOML has them
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_value(name, item) for item in value)}]"
    try:
        str(value).encode()
    except UnicodeEncodeError:
        raise SettingError(f"{name} {str(value)!r} is no text that TOML can hold; give the file another name") from None
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
