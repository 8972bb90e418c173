"""The command: parses, makes one library call, prints. A user's error becomes one line and a status above 0."""

from __future__ import annotations

import atexit
import errno
import io
import os
import re
import sys
import warnings
from contextlib import suppress
from typing import Any, NoReturn

import typer

from blemish import interrupts
from blemish.cli.bench import figure, list_protocols, table
from blemish.cli.bench import run as run_protocol
from blemish.cli.calibrate import calibrate
from blemish.cli.catalogue import detectors, presets
from blemish.cli.change import forget, merge, update
from blemish.cli.compare import compare
from blemish.cli.console import escape, loudness, problem
from blemish.cli.drift import drift
from blemish.cli.evaluate import demo, evaluate
from blemish.cli.everywhere import blemish, everywhere
from blemish.cli.explain import explain, prune, sample
from blemish.cli.export import export
from blemish.cli.fit import fit
from blemish.cli.flags import Command, Group
from blemish.cli.info import info
from blemish.cli.judge import check, predict
from blemish.cli.log import log
from blemish.cli.needs import extra_of
from blemish.cli.review import review
from blemish.cli.serve import serve
from blemish.cli.watch import watch
from blemish.errors import BlemishError, install, is_out_of_memory
from blemish.interrupts import Interrupted

INTERRUPTED = 130
OUT_OF_MEMORY = "out of memory; close other programs or raise the limit, or give a smaller --size or fewer --layers"

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="`blemish COMMAND -h` explains a command.",
)
app.callback()(blemish)
JUDGING = (demo, check, fit, predict, review, watch, explain, evaluate, drift, export)
LISTING = (info, log, detectors, presets)
CHANGING = (update, forget, merge, calibrate, compare, prune, sample)
for command in (*JUDGING, *LISTING, *CHANGING, serve):
    app.command(cls=Command)(everywhere(command))
bench = typer.Typer(
    cls=Group, no_args_is_help=True, rich_markup_mode="rich", help="Run the papers' tables and figures."
)
for name, benching in (("list", list_protocols), ("run", run_protocol), ("table", table), ("figure", figure)):
    bench.command(name, cls=Command)(everywhere(benching))
app.add_typer(bench, name="bench")


def run() -> NoReturn:
    """Runs `main`, then ends the process at once.

    Python would first free torch piece by piece, for longer than some commands take. Temporary folders are removed.
    """
    warnings.simplefilter("ignore")  # warnings of other libraries, for programmers
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file name may hold characters that cannot be encoded
    try:
        main()
    except SystemExit as done:
        status = done.code
    with suppress(BrokenPipeError):
        sys.stdout.flush()
        sys.stderr.flush()
    interrupts.ignore()
    atexit._run_exitfuncs()  # they remove temporary folders
    os._exit(status if isinstance(status, int) else 0)


def main() -> NoReturn:
    """Runs the command; an error becomes one line and a status above 0, or with `--debug` a traceback."""
    loudness.reset()
    loudness.debug = "--debug" in sys.argv  # the parser itself may fail
    try:
        status = app(prog_name="blemish", standalone_mode=False) or 0
        if status == INTERRUPTED:  # how the parser reports Ctrl-C
            raise KeyboardInterrupt
        sys.exit(status)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (Exception, KeyboardInterrupt, Interrupted) as error:
        if loudness.debug:
            raise
        try:
            problem(f"[red]error:[/red] {escape(_one_line(error))}")
        except MemoryError:  # not even enough to print in colour
            os.write(2, f"error: {OUT_OF_MEMORY}\n".encode())
        sys.exit(_status(error))


def _one_line(error: BaseException) -> str:
    if isinstance(error, (KeyboardInterrupt, typer.Abort, Interrupted)):
        return "interrupted; nothing half-written was left"
    if isinstance(error, BlemishError):
        text = str(error)
    elif hasattr(error, "format_message"):  # the parser's errors
        text = _misused(error.format_message() or "No command was given", getattr(error, "ctx", None))
    elif isinstance(error, ModuleNotFoundError):
        text = f"{error.name} is not installed; {install(extra_of(error.name or ''))}"
    elif isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        text = f"{error.filename}: the name is too long for this system; give a shorter one"
    elif is_out_of_memory(error):
        text = OUT_OF_MEMORY
    else:
        text = f"{type(error).__name__}: {error} (an error in {_place(error)}; --debug shows where)"
    text = re.sub(r"\d{60,}", lambda found: f"{found[0][:20]}… ({len(found[0]):,} digits)", text)
    return " ".join(text.split())


def _place(error: BaseException) -> str:
    """Returns in whose code an unexpected error arose."""
    if "blemish.detectors" not in sys.modules:
        return "blemish"
    from blemish.detectors import place_in_own

    return place_in_own(error) or "blemish"


def _misused(message: str, context: Any) -> str:
    """Returns what is wrong on the command line, and which help to read."""
    for start in ("No such option:", "No such command"):
        if message.startswith(start):
            message = "unknown option or command:" + message.removeprefix(start)
    message = message.replace(": Value error, ", ": ", 1)  # the parser's word, which says nothing
    end = "" if message.endswith("?") else "."
    return f"{message.rstrip('.')}{end} See {getattr(context, 'command_path', 'blemish')} --help"


def _status(error: BaseException) -> int:
    if isinstance(error, Interrupted):
        return error.status
    if isinstance(error, (KeyboardInterrupt, typer.Abort)):
        return INTERRUPTED
    return int(getattr(error, "exit_code", 1))
