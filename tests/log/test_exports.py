"""Verdicts as JSON lines, CSV and Parquet."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

from blemish.errors import MissingExtraError
from blemish.log import Verdict, csv_lines, exports, json_lines, write_csv, write_parquet
from databases import verdict

BAD = verdict(1, error='damaged, "cut"\nshort', score=math.nan, p_value=math.nan, is_anomaly=None, boxes=(), name=None)


def test_csv_reads_back_and_no_name_is_a_formula() -> None:
    names = ["=HYPERLINK(1)", "+1", "-1", "@SUM(A1)", " =1", "＝1", "a=1", 'a,"b"\nc', "Größe.png", "a;=1"]
    rows = [verdict(n, name=name, score=-0.5, feedback="anomalous") for n, name in enumerate(names)]
    file = io.StringIO(newline="")
    write_csv([*rows, BAD], file)
    read = list(csv.DictReader(io.StringIO(file.getvalue(), newline="")))
    assert [row["name"] for row in read] == [*(f"'{name}" for name in names[:6]), *names[6:9], "a;'=1", ""]
    first, bad = read[0], read[-1]
    assert float(first["score"]) == -0.5
    assert first["time"] == "2023-11-14T22:13:20.000000Z"
    assert (first["is_anomaly"], first["feedback"]) == ("true", "anomalous")
    assert json.loads(first["boxes"]) == [
        {"top": 1, "left": 2, "bottom": 30, "right": 40, "area": 500, "peak": 0.1 + 0.2}
    ]
    assert (bad["score"], bad["is_anomaly"], bad["error"]) == ("", "", BAD.error)


def test_json_lines_read_back() -> None:
    one, bad = (json.loads(line) for line in json_lines([verdict(5), BAD]))
    assert one["score"] == verdict(5).score
    assert one["boxes"][0]["peak"] == 0.1 + 0.2
    assert bad["score"] is None
    assert bad["error"] == BAD.error


def test_parquet_reads_back_with_times_and_boxes_as_such() -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow; pip install 'blemish[parquet]'")
    rows = [verdict(n, name="=1") for n in range(2_500)]
    file = io.BytesIO()
    write_parquet(iter([*rows, BAD]), file)
    table = parquet.read_table(io.BytesIO(file.getvalue()))
    assert table.column("id").to_pylist() == [row.id for row in (*rows, BAD)]
    assert str(table.schema.field("time").type) == "timestamp[us, tz=UTC]"
    first, bad = table.slice(0, 1).to_pylist()[0], table.slice(2_500).to_pylist()[0]
    assert first["name"] == "=1"
    assert first["boxes"] == [{"top": 1, "left": 2, "bottom": 30, "right": 40, "area": 500, "peak": 0.1 + 0.2}]
    assert (bad["score"], bad["is_anomaly"], bad["boxes"]) == (None, None, [])
    empty = io.BytesIO()
    write_parquet([], empty)
    assert parquet.read_table(io.BytesIO(empty.getvalue())).schema == table.schema


def test_memory_does_not_grow_with_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "ROWS", 100)

    def many(count: int) -> Iterator[Verdict]:
        return (verdict(n, name="x" * 1_000) for n in range(count))

    def peak(count: int) -> int:
        tracemalloc.start()
        for _ in csv_lines(many(count)):
            pass
        write_parquet(many(count), Nowhere())  # type: ignore[arg-type]
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(100)
    assert peak(1_500) < peak(150) + 300_000


class Nowhere(io.RawIOBase):
    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        return len(content)


def test_parquet_without_pyarrow_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "pyarrow.parquet", raising=False)
    with pytest.raises(MissingExtraError, match=r"pip install 'blemish\[parquet\]'"):
        write_parquet([], io.BytesIO())
