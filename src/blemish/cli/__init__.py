"""The command `blemish`."""

from blemish.cli import clock
from blemish.cli.main import app, main, run

__all__ = ["app", "clock", "main", "run"]
