"""Prints lines for the person who runs the service. It never fails, even if the lines cannot be written."""

from __future__ import annotations

import sys
import traceback
from contextlib import suppress

LONGEST = 500
"""Characters of a line, at most."""


def say(text: str) -> None:
    """Prints one line to the error stream, without line breaks and without commands to a terminal."""
    plain = "".join(letter if letter.isprintable() else " " for letter in text[:LONGEST])
    with suppress(OSError, ValueError):  # the disk is full, or the reader has closed the stream
        print(f"blemish: {plain}", file=sys.stderr, flush=True)


def say_traceback() -> None:
    """Prints the traceback of the error that is being handled."""
    with suppress(OSError, ValueError):
        traceback.print_exc(file=sys.stderr)
