"""Ctrl-C and signals to end raise an exception in the main thread, so that everything is cleaned up before the end.

Only the command installs this; a program that uses blemish as a library keeps its own handlers. The exception waits
while a module is being imported, since it would stop in the middle of other libraries' code (torch aborts). It also
waits within `hold`, where a library calls back into Python and would turn it into an error of its own.
"""

from __future__ import annotations

import signal
import sys
import time
from contextlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

WAIT = 0.02
"""Seconds until a delayed interrupt is tried again."""

CLEANING = 5.0
"""Seconds after an interrupt during which further ones are ignored, so that the cleaning is not cut short."""


class Interrupted(BaseException):
    """Raised when a signal to end arrives.

    Attributes:
        status: exit status of the process: 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.status = 128 + number


_pending: int | None = None
_raised = float("-inf")
_holding = 0


def install() -> None:
    """Makes Ctrl-C, SIGTERM and SIGHUP raise `Interrupted` in the main thread."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:  # as nohup sets it
            signal.signal(number, _interrupt)
    if hasattr(signal, "SIGALRM"):
        signal.signal(signal.SIGALRM, _again)
        sys.unraisablehook = _unraised


@contextmanager
def hold() -> Iterator[None]:
    """Delays interrupts until the end of the context."""
    global _holding
    _holding += 1
    try:
        yield
    finally:
        _holding -= 1


def ignore() -> None:
    """Ignores these signals: the last temporary folders are being removed, or another process decides."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGALRM"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _pending
    if time.monotonic() < _raised + CLEANING:
        return
    _pending = number
    _again(number, frame)


def _again(number: int, frame: FrameType | None) -> None:
    global _pending, _raised
    if _pending is None:
        return
    if hasattr(signal, "setitimer") and (_holding or _is_importing(frame)):
        signal.setitimer(signal.ITIMER_REAL, WAIT)
        return
    pending, _pending, _raised = _pending, None, time.monotonic()
    raise Interrupted(pending)


def _unraised(found: sys.UnraisableHookArgs) -> None:
    """Tries an interrupt again if it came while an object was removed, where Python ignores exceptions."""
    global _pending, _raised
    if isinstance(found.exc_value, Interrupted):
        _pending, _raised = found.exc_value.status - 128, float("-inf")
        signal.setitimer(signal.ITIMER_REAL, WAIT)
    else:
        sys.__unraisablehook__(found)


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
