"""Checks the parameters of a query against the OpenAPI document, so that a misspelt one is not ignored."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl

from blemish.service.refused import Refused


class Queries:
    """The parameters of all paths.

    Args:
        document: the OpenAPI document.
    """

    def __init__(self, document: dict[str, Any]) -> None:
        self._known = [
            (method.upper(), re.compile(re.sub(r"\{\w+\}", "[^/]+", path)), _names(operation))
            for path, methods in document["paths"].items()
            if path.startswith("/v1")
            for method, operation in methods.items()
        ]

    def check(self, method: str, path: str, query: bytes) -> None:
        """Raises `Refused` if a query has a parameter that its path does not take."""
        if not query:
            return
        for its_method, its_path, names in self._known:
            if its_method == method and its_path.fullmatch(path):
                for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
                    if name not in names:
                        raise Refused(422, f"unknown parameter {name[:40]!r}; {_choice(names)}", "query")
                return


def _names(operation: dict[str, Any]) -> list[str]:
    return [given["name"] for given in operation.get("parameters", []) if given["in"] == "query"]


def _choice(names: list[str]) -> str:
    if not names:
        return "this address takes none"
    return f"give {', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else f"give {names[0]}"
