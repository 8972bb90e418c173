"""Tensors by dotted names, so that one file holds those of many parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")


def below(tensors: Mapping[str, T], name: str) -> dict[str, T]:
    """Returns the tensors called `name.…`, without that prefix."""
    prefix = f"{name}."
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}


def under(name: str, tensors: Mapping[str, T]) -> dict[str, T]:
    """Returns the tensors under the names `name.…`: the inverse of `below`."""
    return {f"{name}.{key}": tensor for key, tensor in tensors.items()}
