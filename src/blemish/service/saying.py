"""What the service prints for whoever runs it: one line at a time, and nothing stops where it cannot be written."""

from __future__ import annotations

import sys
import traceback
from contextlib import suppress

LONGEST = 500
"""Letters of a line."""


def say(text: str) -> None:
    """Prints a line to the error stream, without what would be another line or a command to a terminal."""
    plain = "".join(letter if letter.isprintable() else " " for letter in text[:LONGEST])
    with suppress(OSError, ValueError):  # the disk is full that it goes to, or nobody reads it any more
        print(f"blemish: {plain}", file=sys.stderr, flush=True)


def say_where() -> None:
    """Prints where the error that is being handled came from."""
    with suppress(OSError, ValueError):
        traceback.print_exc(file=sys.stderr)
