"""The queue before a database that hangs, fails after it has written, or never comes back."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from blemish.errors import LogError
from blemish.log import Filter, Log, log
from blemish.log.database import Database
from blemish.log.spool import Spool
from databases import until, verdict


class Troubled(Database):
    """A database that hangs, or breaks off before or after it has written, when it is told to."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"sqlite:///{folder / 'log.sqlite'}")
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.breaks: str | None = None
        self.batches: list[int] = []

    def write(self, rows: Sequence[Any], said: Sequence[Any]) -> tuple[int, int]:
        self.may_go_on.wait()
        if self.breaks == "before":
            raise LogError("it broke")
        done = super().write(rows, said)
        self.batches.append(len(rows) + len(said))
        if self.breaks == "after":
            raise LogError("it broke")
        return done


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "PAUSES", (0.02, 0.05))
    monkeypatch.setattr(log, "PATIENCE", 0.2)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Troubled]:
    database = Troubled(tmp_path)
    yield database
    database.may_go_on.set()


def started(database: Database, spool: Spool, queue: int = 10_000) -> Log:
    log = Log(database, spool, queue=queue)
    log.start()
    until(lambda: log.counts.is_connected)
    return log


def test_a_database_that_hangs_delays_nobody_and_costs_no_row(database: Troubled, tmp_path: Path) -> None:
    log = started(database, Spool(tmp_path / "spool"))
    database.may_go_on.clear()
    rows = [verdict(n) for n in range(700)]
    for row in rows:
        log.put(row)
    until(lambda: log.counts.spooled == 700)  # with those that the database is busy with
    assert log.flush(60)
    assert log.counts.problem == "the log's database has not answered for 2 seconds"
    with pytest.raises(LogError, match="has not answered"):
        log.find(Filter())
    database.may_go_on.set()
    until(lambda: log.counts.spooled == 0)
    assert log.counts.written == len(set(log.every(Filter()))) == 700
    assert log.counts.dropped == 0
    log.close()


def test_a_log_closes_though_its_database_hangs_and_the_next_one_writes_what_is_left(
    database: Troubled, tmp_path: Path
) -> None:
    log = started(database, Spool(tmp_path / "spool"))
    database.may_go_on.clear()
    for n in range(20):
        log.put(verdict(n))
    log.close()
    assert log.counts.dropped == 0
    log.put(verdict(21))
    assert log.counts.dropped == 1  # it is closed
    later = started(Troubled(tmp_path), Spool(tmp_path / "spool"))
    until(lambda: later.counts.written == 20)
    later.close()


def test_rows_that_were_written_before_the_database_broke_off_are_there_once(
    database: Troubled, tmp_path: Path
) -> None:
    log = started(database, Spool(tmp_path / "spool"))
    database.breaks = "after"
    for n in range(50):
        log.put(verdict(n))
    until(lambda: log.counts.spooled == 50)
    database.breaks = None
    until(lambda: log.counts.spooled == 0)
    assert len(list(log.every(Filter()))) == 50
    log.close()


def test_rows_go_to_the_disk_from_half_of_the_queue_on(database: Troubled, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("blemish.log.log.PATIENCE", 60.0)
    log = started(database, Spool(tmp_path / "spool"), queue=100)
    database.may_go_on.clear()
    for n in range(49):
        log.put(verdict(n))
    time.sleep(0.05)
    assert log.counts.spooled == 0
    log.put(verdict(49))
    until(lambda: log.counts.spooled == 50)
    database.may_go_on.set()
    until(lambda: log.counts.written == 50)
    log.close()


def test_beyond_queue_and_spool_rows_are_dropped_and_counted_and_the_oldest_kept(
    database: Troubled, tmp_path: Path
) -> None:
    log = started(database, Spool(tmp_path / "spool", most_bytes=40_000), queue=100)
    database.breaks = "before"
    rows = [verdict(n) for n in range(1_000)]
    for row in rows:
        log.put(row)
        time.sleep(0 if log.counts.waiting < 60 else 0.001)
    until(lambda: log.counts.waiting == 100)
    counts = log.counts
    assert counts.dropped > 0
    assert counts.spooled + counts.waiting + counts.dropped == 1_000
    assert sum(path.stat().st_size for path in (tmp_path / "spool").rglob("*.jsonl")) <= 40_000
    database.breaks = None
    until(lambda: log.counts.written == 1_000 - counts.dropped)
    kept = list(log.every(Filter()))
    assert set(rows[: counts.spooled]) <= set(kept)
    log.close()


def test_rows_are_written_in_batches_in_the_order_in_which_they_came(database: Troubled, tmp_path: Path) -> None:
    log = started(database, Spool(tmp_path / "spool"))
    database.breaks = "before"
    rows = [verdict(n) for n in range(1_200)]
    for row in rows:
        log.put(row)
    until(lambda: log.counts.spooled == 1_200)
    database.breaks = None
    until(lambda: log.counts.written == 1_200)
    assert max(database.batches) <= 500
    assert len(database.batches) < 20
    with database._reading.connect() as connection:
        stored = connection.exec_driver_sql("SELECT id FROM blemish_verdicts ORDER BY rowid").scalars().all()
    assert stored == [row.id for row in rows]
    log.close()


def test_a_log_that_cannot_write_anywhere_goes_on(database: Troubled, tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file, where a folder should be")
    log = started(database, Spool(tmp_path / "spool"))
    database.breaks = "before"
    for n in range(30):
        log.put(verdict(n))
    until(lambda: not log.counts.is_connected)
    assert not log.flush(0.1)
    assert log.counts.waiting == 30
    database.breaks = None
    until(lambda: log.counts.written == 30)
    database.breaks = "before"
    log.put(verdict(31))
    log.close(0.1)
    assert log.counts.dropped == 1


@pytest.mark.parametrize("seed", range(3))
def test_whatever_breaks_in_whatever_order_each_row_is_there_once(seed: int, tmp_path: Path) -> None:
    draw = random.Random(seed)  # noqa: S311

    class Fickle(Troubled):
        def write(self, rows: Sequence[Any], said: Sequence[Any]) -> tuple[int, int]:
            time.sleep(draw.choice([0, 0, 0, 0.3]))
            self.breaks = draw.choice(["before", "after", None, None])
            return super().write(rows, said)

    rows = [verdict(n) for n in range(400)]
    said: dict[str, str] = {}
    log = started(Fickle(tmp_path), Spool(tmp_path / "spool"), queue=60)
    for number, row in enumerate(rows):
        while log.counts.waiting > 50:  # whoever puts more in than the disk takes would lose some
            time.sleep(0.005)
        log.put(row)
        if number % 7 == 0:
            words = draw.choice([("good", "anomalous"), ("anomalous", "good")])
            for word in words:
                log.feedback(row.id, word)  # type: ignore[arg-type]
            said[row.id] = words[-1]
        if number in {150, 300}:
            log.close()
            log = started(Fickle(tmp_path), Spool(tmp_path / "spool"), queue=60)
    log.close()
    last = started(Troubled(tmp_path), Spool(tmp_path / "spool"))
    until(lambda: last.counts.spooled == 0)
    found = {row.id: row.feedback for row in last.every(Filter())}
    assert found == {row.id: said.get(row.id) for row in rows}
    assert len(list(last.every(Filter()))) == len(rows)
    last.close()
