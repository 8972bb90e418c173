"""`blemish log`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blemish.cli.console import err, escape
from blemish.cli.needs import needs
from blemish.cli.options import Force
from blemish.errors import SettingError

if TYPE_CHECKING:
    from blemish.log import Verdict

SQLITE = "sqlite:///"


class Format(str, Enum):
    jsonl = "jsonl"
    csv = "csv"
    parquet = "parquet"


def log(
    url: Annotated[
        str, typer.Argument(metavar="URL", help="A file of SQLite, sqlite:///PATH or postgresql://HOST/DATABASE.")
    ],
    since: Annotated[str | None, typer.Option(help="From this time on: 2026-01-31 or 2026-01-31T12:00, UTC.")] = None,
    until: Annotated[str | None, typer.Option(help="Up to this time, not included.")] = None,
    model: Annotated[str | None, typer.Option(help="Only verdicts of the model with this name.")] = None,
    anomalous: Annotated[bool, typer.Option("--anomalous", help="Only anomalous images.")] = False,
    format: Annotated[Format, typer.Option("--format", help="jsonl, csv or parquet.")] = Format.jsonl,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write to this new file.")] = None,
    force: Force = False,
) -> None:
    """Print or export the verdicts in a log, newest first.

    Example: [bold]blemish log sqlite:///blemish-service/verdicts.sqlite --since 2026-01-31 --format csv[/bold]
    """
    from blemish.log import Filter, read_log
    from blemish.log.exports import csv_lines, json_lines, write_parquet
    from blemish.storage import check_free_file, new_file

    needs("log", url if url.startswith("postgresql") else SQLITE, parquet=format is Format.parquet)
    if output is not None:
        check_free_file(output, force=force, has_mark=False)
        source = url.removeprefix(SQLITE)
        if os.path.exists(output) and os.path.exists(source) and os.path.samefile(output, source):
            raise SettingError(f"{output}: is the log itself; give another file to write to")
    if format is Format.parquet and output is None:
        raise SettingError("Parquet is not for a terminal; give -o FILE")
    wanted = Filter(model, None, _moment(since), _moment(until), True if anomalous else None)
    if "://" not in url and not os.path.isfile(url):
        raise SettingError(f"{url}: no such file; give the log's file, sqlite:///PATH or postgresql://HOST/DATABASE")
    address = f"{SQLITE}{url}" if os.path.isfile(url) else url
    verdicts = _note_if_none(read_log(address, wanted))  # raises before anything is written, if there is no log
    lines = csv_lines if format is Format.csv else json_lines
    if output is None:
        for line in lines(verdicts):
            sys.stdout.write(line)
        return
    with new_file(output, force=force, has_mark=False) as draft:
        if format is Format.parquet:
            with draft.open("wb") as file:
                write_parquet(verdicts, file)
        else:
            with draft.open("w", encoding="utf-8", newline="") as text:
                text.writelines(lines(verdicts))
    err.print(f"written to {escape(str(output))}")


def _note_if_none(verdicts: Iterator[Verdict]) -> Iterator[Verdict]:
    """Yields the verdicts; prints a note if there are none."""
    first = next(verdicts, None)
    if first is None:
        err.print("no verdicts match")
        return
    yield first
    yield from verdicts


def _moment(text: str | None) -> float | None:
    """Returns seconds since 1970. Raises `SettingError` if the text is no time in ISO 8601."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith(("Z", "z")) else text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
    except (ValueError, OverflowError):
        raise SettingError(f"{text!r} is not a time; give one like 2026-01-31 or 2026-01-31T12:00, in UTC") from None
