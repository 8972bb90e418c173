"""The most memory that this process took since a given moment."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

_PROCESS = Path("/proc/self")


def reset_peak() -> None:
    """Begins a new measurement on Linux; elsewhere the peak is that since the process began."""
    with suppress(OSError):
        (_PROCESS / "clear_refs").write_text("5")


def peak_bytes() -> int | None:
    """Returns the bytes of memory that the process had at most; `None` if the system does not tell."""
    with suppress(OSError, StopIteration, ValueError):
        lines = (_PROCESS / "status").read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) << 10
    with suppress(ImportError):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak << 10
    return None
