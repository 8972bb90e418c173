"""`python -m blemish` is the `blemish` command."""

from blemish.cli import run

run()
