"""Verdicts as JSON lines, CSV or Parquet, in memory that does not grow with their number."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import IO, TYPE_CHECKING, Any

from blemish.errors import require
from blemish.log.verdict import COLUMNS, Verdict, row_of

if TYPE_CHECKING:
    import pyarrow

ROWS = 1_000
"""Rows that are in memory at one time."""

GUARDED = ("model", "name", "error")
"""Columns of CSV with text from outside; a formula in them gets a ' in front."""

_FORMULA = re.compile("(^|[;,\t\r\n])(?=\\s*[=+@\uff1d\uff0b\uff0d\uff20-])|^(?=[\t\r\n])")
"""The beginning of a formula in a cell, even if a spreadsheet splits cells at another character; also full-width."""

_NAMES = (*COLUMNS, "feedback")


def json_lines(verdicts: Iterable[Verdict]) -> Iterator[str]:
    """Yields a line of JSON for each verdict; see `Verdict.as_dict`."""
    for verdict in verdicts:
        yield json.dumps(verdict.as_dict(), allow_nan=False) + "\n"


def csv_lines(verdicts: Iterable[Verdict]) -> Iterator[str]:
    """Yields the header, then one line for each verdict: the time as ISO 8601 in UTC, boxes as JSON."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(_NAMES)
    yield buffer.getvalue()
    for verdict in verdicts:
        buffer.seek(0)
        buffer.truncate()
        writer.writerow([_cell(name, value) for name, value in verdict.as_dict().items()])
        yield buffer.getvalue()


def write_csv(verdicts: Iterable[Verdict], file: IO[str]) -> None:
    """Writes the lines of `csv_lines` to a file that was opened with `newline=""`."""
    for line in csv_lines(verdicts):
        file.write(line)


def write_parquet(verdicts: Iterable[Verdict], file: IO[bytes]) -> None:
    """Writes Parquet: the time as a timestamp in UTC, boxes as a list of records, NaN as a missing value.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    require("pyarrow.parquet", of="Parquet", extra="parquet")
    import pyarrow
    from pyarrow import parquet

    columns = _schema()
    left = iter(verdicts)
    with parquet.ParquetWriter(file, columns) as writer:
        while some := [_record(verdict) for verdict in islice(left, ROWS)]:
            writer.write_table(pyarrow.Table.from_pylist(some, columns))


def _schema() -> pyarrow.Schema:
    import pyarrow

    sides = [(side, pyarrow.int32()) for side in ("top", "left", "bottom", "right")]
    box = pyarrow.struct([*sides, ("area", pyarrow.int64()), ("peak", pyarrow.float64())])
    kinds = {
        "time": pyarrow.timestamp("us", tz="UTC"),
        "is_anomaly": pyarrow.bool_(),
        "boxes": pyarrow.list_(box),
        **dict.fromkeys(("score", "p_value", "threshold", "false_alarm_rate", "latency"), pyarrow.float64()),
    }
    return pyarrow.schema([(name, kinds.get(name, pyarrow.string())) for name in _NAMES])


def _record(verdict: Verdict) -> dict[str, Any]:
    return {**row_of(verdict), "time": round(1e6 * verdict.time), "feedback": verdict.feedback}


def _cell(name: str, value: Any) -> Any:
    if name == "boxes":
        return json.dumps(value)
    if isinstance(value, bool):
        return str(value).lower()
    return guarded(value) if name in GUARDED and isinstance(value, str) else value


def guarded(text: str) -> str:
    """Returns a text with a `'` before everything that a spreadsheet would take for a formula."""
    return _FORMULA.sub(r"\1'", text)
