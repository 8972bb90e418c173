"""What is kept of the images that were judged."""

from __future__ import annotations

import csv
import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from blemish.errors import SettingError, StorageError
from blemish.maps import Box
from blemish.watching.journal import Journal
from blemish.watching.result import Result


def result(path: str, error: str | None = None) -> Result:
    """A result with all fields."""
    nan = float("nan")
    return Result(
        id="0" * 32,
        time=1_795_639_932.5,
        path=path,
        size=7,
        modified=1_795_639_932_855_271_265,
        file_digest="d",
        digest="e",
        model="cells",
        version="0123456789ab",
        score=nan if error else 2.5,
        p_value=nan if error else 0.05,
        is_anomaly=None if error else True,
        threshold=1.5,
        false_alarm_rate=0.1,
        boxes=() if error else (Box(1, 2, 3, 4, 4, 9.5),),
        is_known=False,
        latency=0.0125,
        map=None if error else "overlays/a.png",
        error=error,
    )


@contextmanager
def journal(folder: Path) -> Iterator[Journal]:
    opened = Journal(folder, "line")
    try:
        yield opened
    finally:
        opened.close()


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "results.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_result_comes_back_from_its_line_as_it_was() -> None:
    whole, failed = result("lot/ä\udc80\n.png"), result("b.png", "is empty")
    assert Result.from_line(whole.line(), "") == whole
    assert whole.line().count(b"\n") == 1
    again = Result.from_line(failed.line(), "")
    assert (again.error, again.is_anomaly, again.kind) == ("is empty", None, "unreadable")
    assert json.loads(failed.line()).keys().isdisjoint({"score", "p_value", "is_anomaly"})


def test_what_was_judged_is_known_after_a_start_and_the_table_says_the_same(tmp_path: Path) -> None:
    with journal(tmp_path) as first:
        first.append([result("a.png"), result("=1+1.png", "is empty")])
        assert first.find("a.png") is None  # not before the index was written, too
        first.catch_up()
        assert first.find("a.png").kind == "anomalous"  # type: ignore[union-attr]
        first.append([result("\udc80\n.png")])  # and a crash before the index was written
    with journal(tmp_path) as second:
        done = second.find("\udc80\n.png")
        assert done is not None
        assert (done.size, done.modified, done.digest) == (7, 1_795_639_932_855_271_265, "d")
        assert second.find("=1+1.png").kind == "unreadable"  # type: ignore[union-attr]
    rows = table(tmp_path)
    assert [(row["path"], row["verdict"], row["boxes"]) for row in rows] == [
        ("a.png", "anomalous", "1"),
        ("'=1+1.png", "unreadable", "0"),  # no formula for a spreadsheet
        ("\\udc80\n.png", "anomalous", "1"),
    ]


@pytest.mark.parametrize("torn", [b'{"path": "b.pn', b"\0" * 5000, b"x" * 200_000])
def test_a_last_line_that_is_not_whole_is_cut_off(tmp_path: Path, torn: bytes) -> None:
    with journal(tmp_path) as first:
        first.append([result("a.png")])
    whole = (tmp_path / "results.jsonl").read_bytes()
    (tmp_path / "results.jsonl").write_bytes(whole + torn)
    with (tmp_path / "results.csv").open("ab") as file:
        file.write(b"torn,")
    with journal(tmp_path) as second:
        assert (tmp_path / "results.jsonl").read_bytes() == whole
        second.append([result("b.png")])
        second.catch_up()
    assert [row["path"] for row in table(tmp_path)] == ["a.png", "b.png"]


def test_an_index_or_a_table_that_was_damaged_or_removed_is_made_anew(tmp_path: Path) -> None:
    with journal(tmp_path) as first:
        first.append([result("a.png"), result("b.png")])
    for damage in ("index.sqlite", "results.csv"):
        (tmp_path / damage).write_bytes(b"damaged " * 1000 if damage == "index.sqlite" else b"")
        with journal(tmp_path) as again:
            assert again.find("b.png") is not None
            again.catch_up()
        assert [row["path"] for row in table(tmp_path)] == ["a.png", "b.png"]
    (tmp_path / "index.sqlite").unlink()
    with journal(tmp_path) as again:
        assert again.find("b.png") is not None
    (tmp_path / "results.jsonl").unlink()  # somebody begins anew
    with journal(tmp_path) as again:
        assert again.find("b.png") is None
    assert table(tmp_path) == []


def test_a_full_disk_leaves_whole_lines_and_the_next_attempt_writes_them_once(tmp_path: Path) -> None:
    with journal(tmp_path) as one:
        one.append([result("a.png")])
        one.catch_up()
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        room = (tmp_path / "results.jsonl").stat().st_size + 100
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))  # a part of the line still fits
        try:
            with pytest.raises(OSError, match="File too large"):
                one.append([result("b.png"), result("c.png")])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert (tmp_path / "results.jsonl").stat().st_size == room - 100
        one.append([result("b.png"), result("c.png")])
        one.catch_up()
    names = [json.loads(line)["path"] for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert names == [row["path"] for row in table(tmp_path)] == ["a.png", "b.png", "c.png"]


def test_a_folder_in_use_or_of_another_source_or_with_other_files_is_refused_in_one_line(tmp_path: Path) -> None:
    with journal(tmp_path / "mine"), pytest.raises(SettingError, match="is in use by another blemish watch; give"):
        Journal(tmp_path / "mine", "line")
    with pytest.raises(SettingError, match="holds results of line, not of other; give another folder"):
        Journal(tmp_path / "mine", "other")
    (tmp_path / "results.csv").write_text("mine")
    with pytest.raises(StorageError, match="results.csv: was not written by watch, so it is not replaced"):
        Journal(tmp_path, "line")
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["results.csv"]
    (tmp_path / "predicted").mkdir()
    (tmp_path / "predicted" / "results.jsonl").write_text('{"path": "a.png", "error": "is empty"}\n')
    with pytest.raises(StorageError, match="byte 0 is not what watch wrote"):
        Journal(tmp_path / "predicted", "line")
    assert (tmp_path / "predicted" / "results.jsonl").read_text() == '{"path": "a.png", "error": "is empty"}\n'
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file: cannot be written"):
        Journal(tmp_path / "file", "line")
