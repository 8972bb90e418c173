"""How a long task reports its progress: to a function, to the terminal, and to Python's logging."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with the stage, how many images are done, and how many there are; 0 where that is not known."""

LOG = logging.getLogger("blemish")
"""The logger of what a fit plans and finds, and of what is loaded; silent unless a program adds a handler."""
LOG.addHandler(logging.NullHandler())

OFTEN = 0.1
"""Seconds between two lines of `Printed`, at least."""


class Printed:
    """Prints progress as one line on the error stream, which is overwritten; each stage ends with a new line."""

    def __init__(self) -> None:
        self._last = 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        ends = 0 < total <= done
        if not ends and time.monotonic() - self._last < OFTEN:
            return
        self._last = time.monotonic()
        count = f"{done}/{total}" if total else str(done)
        print(f"\r{stage} {count}", end="\n" if ends else "", file=sys.stderr, flush=True)


def reported(progress: Progress | bool | None) -> Progress | None:
    """Returns what to call: the function given, `Printed` for `True`, or `None`."""
    if isinstance(progress, bool):
        return Printed() if progress else None
    return progress
