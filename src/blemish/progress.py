"""How a long task reports its progress."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


Progress = Callable[[str, int, int], None]
"""Called with the stage, how many images are done, and how many there are."""
