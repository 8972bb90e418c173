"""The spool: rows on the disk, whole or not at all, which the next process takes over."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import pytest

from blemish.log import spool
from blemish.log.spool import Spool, SpoolFullError, read_spooled


def rows(first: int, count: int) -> list[dict[str, object]]:
    return [{"n": n, "text": "ä\udcff" * 20} for n in range(first, first + count)]


def numbers(spool: Spool) -> list[int]:
    """Those of all rows, which are then removed."""
    found = []
    while (path := spool.oldest()) is not None:
        found += [row["n"] for row in read_spooled(path) if row is not None]
        spool.remove_oldest()
    return found


def test_rows_come_back_in_order_over_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "FILE_BYTES", 1_000)
    one = Spool(tmp_path)
    for first in range(0, 100, 10):
        one.append(rows(first, 10))
    assert one.count == 100
    assert len(list(tmp_path.rglob("*.jsonl"))) > 5
    assert numbers(one) == list(range(100))
    assert one.count == 0
    one.close()
    assert not list(tmp_path.iterdir())


def test_a_spool_stays_within_its_bytes_and_keeps_the_oldest(tmp_path: Path) -> None:
    one = Spool(tmp_path, most_bytes=2_000)
    one.append(rows(0, 5))
    with pytest.raises(SpoolFullError):
        one.append(rows(5, 50))
    assert numbers(one) == [0, 1, 2, 3, 4]
    one.append(rows(5, 5))
    assert numbers(one) == [5, 6, 7, 8, 9]
    one.close()


def test_on_a_full_disk_no_row_is_left_in_part(tmp_path: Path) -> None:
    one = Spool(tmp_path)
    one.append(rows(0, 5))
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3_000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            one.append(rows(5, 200))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert one.count == 5
    one.append(rows(5, 5))
    assert numbers(one) == list(range(10))
    one.close()


def test_the_next_process_takes_over_what_an_ended_one_left_but_nothing_of_a_running_one(tmp_path: Path) -> None:
    running, ended = Spool(tmp_path), Spool(tmp_path)
    running.append(rows(0, 3))
    ended.append(rows(3, 3))
    ended.close()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "000000000001.jsonl").write_text('{"n": 99}\n')
    after = Spool(tmp_path)
    assert after.count == 3
    after.append(rows(6, 3))
    assert numbers(after) == [3, 4, 5, 6, 7, 8]
    assert numbers(running) == [0, 1, 2]
    for one in (after, running):
        one.close()
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_line_that_a_loss_of_power_tore_is_left_out(tmp_path: Path) -> None:
    one = Spool(tmp_path)
    one.append(rows(0, 2))
    (path,) = tmp_path.rglob("*.jsonl")
    with path.open("ab") as file:
        file.write(b'{"n": 2, "te\n' + b"\xff\0\n" + b"[" * 100_000 + b"\n[1]\n7\n" + b'{"n": 3')
    read = list(read_spooled(path))
    assert [row["n"] for row in read if row] == [0, 1]
    assert read.count(None) == 6
    one.close()


def test_lines_are_read_within_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "LONGEST_LINE", 100)
    (tmp_path / "file").write_bytes(json.dumps({"n": "x" * 1_000}).encode() + b'\n{"n": 1}\n')
    read = list(read_spooled(tmp_path / "file"))
    assert read[-1] == {"n": 1}
    assert set(map(str, read[:-1])) == {"None"}


def test_a_folder_that_was_removed_is_made_again_and_its_rows_counted_as_lost(tmp_path: Path) -> None:
    one = Spool(tmp_path / "spool")
    one.append(rows(0, 4))
    for path in sorted((tmp_path / "spool").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    one.append(rows(4, 2))
    assert (one.count, one.lost) == (2, 4)
    assert numbers(one) == [4, 5]
    one.close()
