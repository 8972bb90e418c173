"""The log on both databases: what is put in comes back, once, whatever happens to the database meanwhile."""

from __future__ import annotations

import math
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from blemish.errors import LogError, SettingError
from blemish.log import Filter, Log, Verdict, database, log, new_id, open_log
from blemish.log.verdict import BOXES, LONGEST
from blemish.maps import Box
from databases import PostgresDatabase, SqliteFile, until, verdict

Place = SqliteFile | PostgresDatabase


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """An empty database, lost and locked for short times only."""
    if request.param == "sqlite":
        return SqliteFile(tmp_path)
    return PostgresDatabase(request.getfixturevalue("postgres"))


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "PAUSES", (0.02, 0.1))
    monkeypatch.setattr(log, "PATIENCE", 20.0)  # tests run beside others; those on slow databases shorten it
    monkeypatch.setattr(database, "BUSY", 0.2)


@pytest.fixture
def opened(place: Place, tmp_path: Path) -> Iterator[Log]:
    log = open_log(place.url, tmp_path / "spool")
    yield log
    log.close()


def put(log: Log, *verdicts: Verdict) -> list[Verdict]:
    for one in verdicts:
        log.put(one)
    assert log.flush(60)
    return list(verdicts)


def ids(log: Log) -> list[str]:
    return sorted(one.id for one in log.every(Filter()))


def test_a_verdict_comes_back_as_it_was_put_in(opened: Log) -> None:
    nothing = {"score": math.nan, "p_value": math.nan, "is_anomaly": None, "boxes": (), "name": None, "digest": ""}
    one, bad = put(opened, verdict(1, role="shadow"), verdict(2, error="is empty", **nothing))
    assert opened.get(one.id) == one
    found = opened.get(bad.id)
    assert found is not None
    assert math.isnan(found.score)
    assert math.isnan(found.p_value)
    assert replace(found, score=0, p_value=0) == replace(bad, score=0, p_value=0)
    assert opened.get(new_id()) is None
    assert opened.get("x' OR 1=1 \0") is None
    assert opened.counts.written == 2


def test_verdicts_are_found_newest_first_by_model_role_time_verdict_and_feedback(opened: Log) -> None:
    rows = put(opened, *(verdict(n, model="ab"[n % 2], role=("decides", "shadow")[n == 7]) for n in range(10)))
    opened.feedback(rows[3].id, "good")
    opened.feedback(rows[4].id, "anomalous")
    assert opened.flush(60)

    def found(**wanted: object) -> list[int]:
        return [rows.index(replace(one, feedback=None)) for one in opened.find(Filter(**wanted)).verdicts]  # type: ignore[arg-type]

    assert found() == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]
    assert found(model="a") == [8, 6, 4, 2, 0]
    assert found(role="shadow") == [7]
    assert found(since=rows[3].time, until=rows[6].time) == [5, 4, 3]
    assert found(is_anomaly=True) == [9, 6, 3, 0]
    assert found(feedback="good") == [3]
    assert found(feedback="anomalous", model="b") == []
    assert found(model="a\0\ud800'; DROP TABLE blemish_verdicts") == []


def test_pages_follow_each_other_though_rows_of_the_same_time_come_meanwhile(opened: Log) -> None:
    rows = put(opened, *(verdict(n // 4) for n in range(20)))
    seen: list[str] = []
    after = None
    while True:
        found = opened.find(Filter(), limit=3, after=after)
        seen += [one.id for one in found.verdicts]
        put(opened, verdict(99))  # newer than all: on no later page
        if found.next is None:
            break
        after = found.next
    assert seen == [one.id for one in sorted(rows, key=lambda one: (one.time, one.id), reverse=True)]
    for after in ("", "x", "1.0_", f"nan_{rows[0].id}", f"1_{rows[0].id}; DROP", "_" * 10_000):
        with pytest.raises(SettingError, match="is not a place in the log; give `next`"):
            opened.find(Filter(), after=after)
    for limit in (0, 10_001):
        with pytest.raises(SettingError, match="out of range"):
            opened.find(Filter(), limit=limit)


def test_the_later_feedback_counts_though_the_clock_was_set_back(
    opened: Log, tmp_path: Path, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    (row,) = put(opened, verdict())
    now = time.time()
    opened.feedback(row.id, "good")
    monkeypatch.setattr(time, "time", lambda: now - 3600)
    opened.feedback(row.id, "anomalous")
    assert opened.flush(60)
    assert (found := opened.get(row.id)) is not None
    assert found.feedback == "anomalous"
    later = open_log(place.url, tmp_path / "spool")  # as after a restart
    later.feedback(row.id, "good")
    assert later.flush(60)
    assert (found := later.get(row.id)) is not None
    assert found.feedback == "good"
    later.close()


def test_rows_of_a_clock_that_was_set_back_are_in_their_place(opened: Log) -> None:
    late, early = put(opened, verdict(100), verdict(50))
    assert opened.find(Filter()).verdicts == (late, early)


def test_feedback_may_come_before_its_verdict(opened: Log) -> None:
    row = verdict()
    opened.feedback(row.id, "anomalous")
    assert opened.flush(60)
    assert opened.get(row.id) is None
    put(opened, row)
    assert opened.get(row.id) == replace(row, feedback="anomalous")


def test_odd_texts_are_kept_readable_and_within_limits(opened: Log) -> None:
    odd = ["a\0b", "\udcff.png", "Größe ✓ 🔩.png", "x" * 1_000_000, "\0" * 1_000_000, "‮gnp.exe", "a\nb", "=1+1", ""]
    rows = put(opened, *(verdict(n, name=name, error=name, model=name) for n, name in enumerate(odd)))
    found = [opened.get(row.id) for row in rows]
    assert None not in found
    names = [one.name for one in found if one is not None]
    assert names[0] == r"a\0b"
    assert names[1] == r"\udcff.png"
    assert [names[n] for n in (2, 5, 6, 7, 8)] == [odd[n] for n in (2, 5, 6, 7, 8)]
    assert [len(names[n] or "") for n in (3, 4)] == [LONGEST["name"]] * 2
    many = verdict(20, boxes=tuple(Box(n, 0, n + 1, 1, 1, math.inf) for n in range(5_000)))
    put(opened, many)
    assert len((opened.get(many.id) or many).boxes) == BOXES
    assert opened.find(Filter(model="a\0b")).verdicts[0].id == rows[0].id
    assert opened.counts.dropped == 0


def test_what_is_no_row_is_dropped_and_counted_and_raises_nothing(opened: Log) -> None:
    for bad in (
        verdict(id="../../etc/passwd"),
        verdict(request=""),
        verdict(role="boss"),
        verdict(time=math.nan),
        verdict(time=1e300),
        verdict(boxes=None),
        verdict(score="high"),
        object(),
    ):
        opened.put(bad)  # type: ignore[arg-type]
    opened.feedback("no id", "good")
    opened.feedback(new_id(), "perhaps")  # type: ignore[arg-type]
    (row,) = put(opened, verdict())
    assert ids(opened) == [row.id]
    assert opened.counts.dropped == 10


def test_scores_of_spans_of_time_are_those_of_a_sorted_list(opened: Log) -> None:
    rows = [verdict(n, score=(n * 37) % 101, time=1000.0 + n * 17) for n in range(100)]
    put(opened, *rows, verdict(error="damaged", score=math.nan, time=1001.0), verdict(time=99.0))
    assert opened.counts.written == 102
    found = opened.buckets(Filter(model="cells", since=1000.0, until=2500.0), 600)
    assert [one.start for one in found] == [1000.0, 1600.0, 2200.0]
    for one in found:
        inside = [row for row in rows if one.start <= row.time < min(one.start + 600, 2500)]
        scores = [row.score for row in inside]
        assert (one.count, one.lowest, one.highest) == (len(inside), min(scores), max(scores))
        assert one.median == statistics.median(scores)
        assert one.anomalies == sum(row.is_anomaly is True for row in inside)
    with pytest.raises(SettingError, match="give since"):
        opened.buckets(Filter(), 600)


def test_all_are_read_page_by_page(opened: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "PAGE", 7)
    rows = put(opened, *(verdict(n) for n in range(30)))
    assert list(opened.every(Filter())) == rows[::-1]


def test_rows_of_a_lost_database_wait_on_the_disk_and_are_written_once_when_it_is_back(
    place: Place, opened: Log, tmp_path: Path
) -> None:
    rows = put(opened, *(verdict(n) for n in range(5)))
    place.lose()
    for n in range(5, 60):
        opened.put(verdict(n))
    opened.feedback(rows[0].id, "good")
    until(lambda: opened.counts.spooled == 56)
    assert opened.flush(60)
    counts = opened.counts
    assert not counts.is_connected
    assert counts.problem is not None
    assert counts.waiting == counts.dropped == 0
    with pytest.raises(LogError, match="the log's database does not answer") as caught:
        opened.find(Filter())
    assert "\n" not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)
    place.restore()
    until(lambda: opened.counts.spooled == 0)
    assert opened.counts.is_connected
    assert opened.counts.problem is None
    assert opened.counts.written == 61
    assert len(ids(opened)) == len(set(ids(opened))) == 60
    assert (found := opened.get(rows[0].id)) is not None
    assert found.feedback == "good"


def test_a_database_that_is_lost_at_the_start_delays_nothing(place: Place, tmp_path: Path) -> None:
    place.lose()
    log = open_log(place.url, tmp_path / "spool")
    row = verdict()
    log.put(row)
    until(lambda: log.counts.spooled == 1)
    place.restore()
    until(lambda: log.counts.written == 1)
    assert ids(log) == [row.id]
    log.close()
    assert not list((tmp_path / "spool").iterdir())


def test_a_database_that_was_dropped_and_comes_back_empty_gets_its_tables_again(place: Place, opened: Log) -> None:
    put(opened, verdict())
    place.wipe()
    row = verdict(1)
    opened.put(row)
    until(lambda: opened.counts.written == 2)
    assert ids(opened) == [row.id]
    assert place.run("SELECT version FROM blemish_schema") == [(1,)]


def test_rows_wait_while_another_program_holds_the_table(place: Place, opened: Log) -> None:
    with place.locked():
        row = verdict()
        opened.put(row)
        until(lambda: opened.counts.spooled == 1)
        assert not opened.counts.is_connected
    until(lambda: opened.counts.written == 1)
    assert ids(opened) == [row.id]


def test_a_row_that_the_database_refuses_takes_no_other_with_it(place: Place, opened: Log) -> None:
    place.refuse("poison")
    rows = put(opened, verdict(1), verdict(2, name="poison"), verdict(3))
    assert ids(opened) == sorted([rows[0].id, rows[2].id])
    assert (opened.counts.written, opened.counts.dropped) == (2, 1)


def test_a_database_of_another_program_or_version_is_refused_in_one_line_and_left_alone(
    place: Place, tmp_path: Path
) -> None:
    open_log(place.url, tmp_path / "spool").close()
    place.run("UPDATE blemish_schema SET version = 7")
    with pytest.raises(SettingError, match="the log's tables have version 7, not 1; give another database"):
        open_log(place.url, tmp_path / "spool")
    place.wipe()
    place.run("CREATE TABLE blemish_verdicts (mine INTEGER)")
    with pytest.raises(SettingError, match="holds the table blemish_verdicts, which is not part of a log"):
        open_log(place.url, tmp_path / "spool")
    assert place.run("SELECT * FROM blemish_verdicts") == []


def test_two_programs_may_begin_a_log_at_once(place: Place, tmp_path: Path) -> None:
    logs: list[Log] = []
    threads = [threading.Thread(target=lambda: logs.append(open_log(place.url, tmp_path / "spool"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, one in enumerate(logs):
        one.put(verdict(number))
    until(lambda: sum(one.counts.written for one in logs) == 4)
    assert len(ids(logs[0])) == 4
    assert place.run("SELECT COUNT(*) FROM blemish_schema") == [(1,)]
    for one in logs:
        one.close()


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    for content in (b"not a database, but long enough to have been one" * 30, b"\x89PNG\r\n\x1a\n" * 200):
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(SettingError, match="is not a database of SQLite"):
            open_log(f"sqlite:///{tmp_path / 'file'}", tmp_path / "spool")
        assert (tmp_path / "file").read_bytes() == content
    other = SqliteFile(tmp_path)
    other.run("CREATE TABLE places (url TEXT)")
    with pytest.raises(SettingError, match="holds the table places, which is not part of a log"):
        open_log(other.url, tmp_path / "spool")


def test_an_address_of_no_such_database_is_refused_without_its_password(tmp_path: Path) -> None:
    for url in ("mysql://me:secret@host/db", "sqlite://", "sqlite:///", "postgresql+asyncpg://me:secret@h/db", "", "?"):
        with pytest.raises(SettingError, match="give sqlite:///PATH or postgresql://") as caught:
            open_log(url, tmp_path)
        assert "secret" not in str(caught.value)


def test_odd_paths_are_files_of_that_name(tmp_path: Path) -> None:
    for name in ("a b?mode=memory.sqlite", "100%20.sqlite", "#1/ä.sqlite"):
        log = open_log(f"sqlite:///{tmp_path / name}", tmp_path / "spool")
        put(log, verdict())
        log.close()
        assert (tmp_path / name).is_file()


def test_a_full_disk_costs_no_row(tmp_path: Path) -> None:
    place = SqliteFile(tmp_path)
    log = open_log(place.url, tmp_path / "spool")
    put(log, verdict())
    pages = place.run("PRAGMA page_count")[0][0]
    writing = log._database._writing
    with writing.connect() as connection:
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    for number in range(200):
        log.put(verdict(number))
    until(lambda: (log.counts.problem or "").endswith("(database or disk is full)"))
    until(lambda: log.counts.spooled == 200)
    for _ in range(30):  # it is opened again and again, and is not back before a row fits
        assert not log.counts.is_connected
        time.sleep(0.01)
    writing.dispose()  # there is space again
    until(lambda: log.counts.written == 201)
    assert len(ids(log)) == 201
    log.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only the superuser can become somebody else")
def test_a_database_that_may_only_be_read_is_still_read_and_rows_wait(open_path: Path) -> None:
    place = SqliteFile(open_path)
    log = open_log(place.url, open_path / "spool")
    (row,) = put(log, verdict())
    log.close()
    (open_path / "spool").mkdir(exist_ok=True)
    (open_path / "spool").chmod(0o777)
    os.seteuid(65534)
    try:
        log = open_log(place.url, open_path / "spool")
        log.put(verdict(1))
        until(lambda: log.counts.spooled == 1)
        assert "read" in (log.counts.problem or "") or "open" in (log.counts.problem or "")
    finally:
        os.seteuid(0)
    until(lambda: log.counts.written == 1)
    assert len(ids(log)) == 2
    assert row.id in ids(log)
    log.close()


KILLED = """
import os, signal, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from blemish.log import open_log
from databases import verdict
log = open_log(sys.argv[1], Path(sys.argv[2]))
for number in range(300):
    one = verdict(number)
    log.put(one)
    print(one.id)
while log.counts.spooled < 300:
    time.sleep(0.01)
sys.stdout.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_had_on_the_disk_is_written_by_the_next_one(tmp_path: Path) -> None:
    place = SqliteFile(tmp_path)
    place.path.mkdir()
    words = [sys.executable, "-c", KILLED, place.url, tmp_path / "spool", Path(__file__).parents[1]]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    place.path.rmdir()
    log = open_log(place.url, tmp_path / "spool")
    until(lambda: log.counts.written == 300)
    assert ids(log) == sorted(done.stdout.split())
    log.close()
    assert not list((tmp_path / "spool").iterdir())
