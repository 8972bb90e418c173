"""The command `blemish`."""

from blemish.cli.main import app, main, run

__all__ = ["app", "main", "run"]
