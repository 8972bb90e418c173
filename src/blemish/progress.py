"""How far a long task is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


Progress = Callable[[str, int, int], None]
"""Told the stage, and how many of how many images are done."""
