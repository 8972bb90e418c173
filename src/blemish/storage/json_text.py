"""Reads JSON from outside, with limits on its size, its depth and its numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

DEEPEST = 64
"""The largest number of lists and objects within one another."""


def read_json(file: Path, limit: int) -> Any:
    """Returns what a file holds, which is read up to so many bytes.

    Raises:
        ValueError: it is larger, or not JSON as `parse_json` has it.
        OSError: it cannot be read.
    """
    with file.open("rb") as opened:
        content = opened.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"it has more than {limit:,} bytes")
    return parse_json(content)


def parse_json(content: bytes | str) -> Any:
    """Returns what a text in UTF-8 says in JSON.

    Raises:
        ValueError: it is not UTF-8 or not JSON, has a number that JSON does not know, such as NaN, or one of thousands
            of digits, or more than `DEEPEST` lists and objects within one another. The message is one line.
    """
    try:
        text = content if isinstance(content, str) else content.decode("utf-8-sig")
        found = json.loads(text, parse_constant=_no_number)
    except UnicodeDecodeError:
        raise ValueError("it is not a text in UTF-8") from None
    except RecursionError:
        raise ValueError(f"it has more than {DEEPEST} lists and objects within one another") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: {error}") from None
    except _UnknownError:
        raise
    except ValueError:  # Python refuses to read it
        raise ValueError("it has a number of thousands of digits") from None
    if _is_deeper(found, DEEPEST):
        raise ValueError(f"it has more than {DEEPEST} lists and objects within one another")
    return found


class _UnknownError(ValueError):
    """A number that JSON does not know."""


def _no_number(text: str) -> float:
    raise _UnknownError(f"{text} is not a number")


def _is_deeper(value: Any, depth: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return bool(inner) and (
        not depth or any(_is_deeper(item, depth - 1) for item in inner if type(item) in (dict, list))
    )
