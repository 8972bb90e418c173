"""When the command began: imported before the libraries that take long to load."""

from __future__ import annotations

import time

_START = time.perf_counter()


def since_start() -> float:
    """Returns the seconds since the command began."""
    return time.perf_counter() - _START
