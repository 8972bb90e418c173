"""Options that every command has: `--quiet`, `--verbose`, `--debug` and `--import`; and `--version`."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from functools import wraps
from importlib.metadata import version
from typing import Annotated, Any

import typer

from blemish.cli.console import err, escape, loudness, out, problem
from blemish.cli.own import import_modules
from blemish.errors import SettingError

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print results, warnings and errors only.")]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Also print which engine, device, weights and files are used.")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Import = Annotated[
    list[str] | None,
    typer.Option("--import", metavar="MODULE", help="Import a Python module first, such as one with your detector."),
]


def _print_version(wanted: bool) -> None:
    if wanted:
        out.print(f"blemish {version('blemish')}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
]

_LOGGER = logging.getLogger("blemish")

SHARED = {"quiet": (Quiet, False), "verbose": (Verbose, False), "debug": (Debug, False), "imports": (Import, None)}


class LogPrinter(logging.Handler):
    """Prints what the library logs above the progress bars, one line each: warnings, and with `-v` all the rest."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING:
            err.print(f"[yellow]note:[/yellow] {escape(record.getMessage())}")
        elif loudness.verbose:
            problem(f"[dim]{escape(self.format(record))}[/dim]")


def everywhere(command: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a command that also takes `--quiet`, `--verbose`, `--debug` and `--import`."""

    @wraps(command)
    def run(*words: Any, quiet: bool, verbose: bool, debug: bool, imports: list[str] | None, **options: Any) -> Any:
        set_loudness(quiet, verbose, debug)
        import_modules(imports or [])
        return command(*words, **options)

    signature = inspect.signature(command, eval_str=True)
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        for name, (kind, default) in SHARED.items()
    ]
    run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), *added])  # type: ignore[attr-defined]
    run.__annotations__ = {**command.__annotations__, **{name: kind for name, (kind, _) in SHARED.items()}}
    return run


def blemish(
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
    imports: Import = None,
    _: Version = False,
) -> None:
    """Finds what does not belong in images, after seeing only good ones."""
    set_loudness(quiet, verbose, debug)
    import_modules(imports or [])


def set_loudness(quiet: bool, verbose: bool, debug: bool) -> None:
    """Sets what is printed besides results. A flag that was given before the command's name stays set.

    Raises:
        SettingError: both `quiet` and `verbose`.
    """
    loudness.quiet |= quiet
    loudness.verbose |= verbose
    loudness.debug |= debug
    if loudness.quiet and loudness.verbose:
        raise SettingError("--quiet and --verbose contradict each other; give one")
    if not any(isinstance(handler, LogPrinter) for handler in _LOGGER.handlers):
        _LOGGER.addHandler(LogPrinter())
    _LOGGER.setLevel(logging.INFO if loudness.verbose else logging.WARNING)
