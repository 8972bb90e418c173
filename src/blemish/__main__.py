"""The entry point of the command: `blemish`, or `python -m blemish`."""

from __future__ import annotations

import os

from blemish import interrupts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def main() -> NoReturn:
    """Installs the signal handlers before anything large is imported, then runs the command."""
    try:
        interrupts.install()
        from blemish.cli import run

        run()
    except interrupts.Interrupted as interrupted:  # before the command handles it
        os.write(2, b"error: interrupted; nothing half-written was left\n")
        os._exit(interrupted.status)


if __name__ == "__main__":
    main()
