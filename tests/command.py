"""The command, in a process of its own or within this one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

FAULTS = ("Traceback", "in blemish", "report this", "fault of blemish")
"""What the command says only where it takes an error for its own."""

ENVIRONMENT = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1"}


def blemish(*words: object, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "blemish", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRONMENT, **options)  # type: ignore[call-overload, no-any-return]


def inside(capsys: pytest.CaptureFixture[str], *words: object) -> subprocess.CompletedProcess[str]:
    """The same within this process, which has imported torch already."""
    from blemish.cli import main

    capsys.readouterr()
    before, sys.argv = sys.argv, ["blemish", *map(str, words)]
    try:
        with pytest.raises(SystemExit) as left:
            main()
    finally:
        sys.argv = before
    captured = capsys.readouterr()
    return subprocess.CompletedProcess(sys.argv, int(left.value.code or 0), captured.out, captured.err)


def as_in_a_terminal() -> None:
    """Signals that a background job or `nohup` would have ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
