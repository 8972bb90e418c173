"""Writes verdicts to a database that may be slow or lost, and finds them again.

Rows wait in memory. One thread writes them to the database. Another moves them to the disk when the database is lost or
slow. So adding a row is never delayed. A row may go both ways; it counts once, by its id.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from threading import Condition, Thread
from typing import TYPE_CHECKING, Any, get_args

from blemish.errors import BlemishError, LogError, SettingError, require
from blemish.log.finding import Bucket, Filter, Found
from blemish.log.spool import MOST_BYTES, Spool, SpoolFullError, read_spooled
from blemish.log.verdict import Feedback, Verdict, is_id, row_of, verdict_of

if TYPE_CHECKING:
    from blemish.log.database import Database

QUEUE = 10_000
"""Rows that wait in memory, at most; from half of this number on, they are moved to the disk."""

BATCH = 500
"""Rows in a transaction, at most."""

LINGER = 0.02
"""Seconds to wait for more rows, since a transaction of one row costs as much as one of many."""

PATIENCE = 2.0
"""Seconds after which a database that does not answer counts as lost; also the longest wait for it at the start."""

PAUSES = (0.25, 10.0)
"""Seconds between attempts to reach a lost database: the first, and the longest."""

SILENT = f"the log's database has not answered for {PATIENCE:g} seconds"


@dataclass(frozen=True)
class Counts:
    """The state of a log.

    Attributes:
        written: rows that were written to the database.
        waiting: rows that wait in memory.
        spooled: rows that wait on the disk.
        dropped: rows that were lost.
        is_connected: whether the database answers.
        problem: why it does not, in one line, or `None`.
    """

    written: int
    waiting: int
    spooled: int
    dropped: int
    is_connected: bool
    problem: str | None = None


class Log:
    """Stores verdicts without delay, and finds them. `open_log` makes one.

    Args:
        database: stores the rows.
        spool: keeps rows on the disk that cannot be written yet.
        queue: rows that wait in memory, at most.
    """

    def __init__(self, database: Database, spool: Spool, *, queue: int = QUEUE) -> None:
        self._database, self._spool, self._most = database, spool, queue
        self._rows: deque[tuple[int, dict[str, Any]]] = deque()
        self._changed = Condition()
        self._number = self._written = self._dropped = 0
        self._said_at = 0.0
        self._problem: str | None = "the log's database has not answered yet"
        self._since: float | None = time.monotonic()  # when what the database now does began
        self._is_first, self._is_closing = True, False
        self._pause = PAUSES[0]
        self._refusal: SettingError | None = None
        self._threads = [Thread(target=work, name="blemish-log", daemon=True) for work in (self._write, self._spill)]

    def start(self) -> None:
        """Begins to write. Raises `SettingError` if the database answers soon and belongs to another program."""
        for thread in self._threads:
            thread.start()
        with self._changed:
            self._changed.wait_for(lambda: not self._is_first, PATIENCE)
        if self._refusal is not None:
            self.close()
            raise self._refusal

    def put(self, verdict: Verdict) -> None:
        """Adds a row. It never waits for the database and never raises."""
        self._put(lambda: {"verdict": row_of(verdict)})

    def feedback(self, id: str, said: Feedback) -> None:
        """Adds a person's mark on an image. It never waits for the database and never raises."""
        with self._changed:
            # The later mark must count even if the clock was set back.
            moment = self._said_at = max(time.time(), self._said_at + 1e-6)
        self._put(lambda: {"feedback": _checked({"id": id, "said": said, "said_at": moment})})

    def get(self, id: str) -> Verdict | None:
        """Returns one row, or `None`. Raises `LogError` if the database is lost."""
        return self._reading().get(id)

    def find(self, wanted: Filter, *, limit: int = 100, after: str | None = None) -> Found:
        """Returns verdicts, newest first; `after` is `next` of an earlier result.

        Raises:
            LogError: the database is lost.
            SettingError: the limit or the cursor is out of range.
        """
        return self._reading().find(wanted, limit, after)

    def every(self, wanted: Filter) -> Iterator[Verdict]:
        """Yields all verdicts, newest first, in memory that does not grow with them. Raises `LogError`."""
        return self._reading().every(wanted)

    def buckets(self, wanted: Filter, seconds: float) -> list[Bucket]:
        """Returns the scores in spans of time that begin at `wanted.since`; those without any are left out.

        Raises:
            LogError: the database is lost.
            SettingError: `wanted.since` is not given.
        """
        return self._reading().buckets(wanted, seconds)

    def unread(self, wanted: Filter) -> int:
        """Returns how many images got no verdict, since they could not be read. Raises `LogError`."""
        return self._reading().unread(wanted)

    @property
    def counts(self) -> Counts:
        """Counts of the rows, and whether the database answers."""
        with self._changed:
            problem = self._lost()
            dropped = self._dropped + self._spool.lost
            return Counts(self._written, len(self._rows), self._spool.count, dropped, problem is None, problem)

    def flush(self, timeout: float) -> bool:
        """Waits until no row is left in memory; returns whether that happened. Rows on the disk are then flushed."""
        with self._changed:
            done = self._changed.wait_for(lambda: not self._rows, timeout)
        with suppress(OSError):
            self._spool.sync()
        return done

    def close(self, timeout: float = 5.0) -> None:
        """Writes the waiting rows to the database or the disk, and ends; rows that are left are counted as dropped."""
        with self._changed:
            if self._is_closing:
                return
        self.flush(timeout)
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(PATIENCE)
        while self._rows and self._spill_some():
            pass
        with self._changed:
            self._dropped += len(self._rows)
            self._rows.clear()
        self._spool.close()
        if not self._threads[0].is_alive():
            self._database.close()

    # Adding rows

    def _put(self, made: Callable[[], dict[str, Any]]) -> None:
        try:
            row = made()
        except Exception:  # an invalid row must not stop the caller
            row = None
        with self._changed:
            if row is None or self._is_closing or len(self._rows) >= self._most:
                self._dropped += 1
                return
            self._number += 1
            self._rows.append((self._number, row))
            if len(self._rows) == 1 or 2 * len(self._rows) >= self._most:
                self._changed.notify_all()

    # The thread that writes rows to the database

    def _write(self) -> None:
        while not self._is_closing:
            try:
                if self._problem is None:
                    self._wait_for_rows()
                else:
                    self._ask(self._database.connect)
                    if not self._rows and not self._spool.count:  # otherwise it counts as back once a row is written
                        self._tell(None)
                self._write_batch()
                self._replay()
            except Exception as error:
                if isinstance(error, SettingError) and self._is_first:
                    self._refusal = error
                self._tell(str(error) if isinstance(error, BlemishError) else f"{type(error).__name__}: {error}"[:200])
                with self._changed:
                    self._changed.wait_for(lambda: self._is_closing, self._pause)
                self._pause = min(2 * self._pause, PAUSES[1])

    def _wait_for_rows(self) -> None:
        with self._changed:
            if self._changed.wait_for(lambda: self._rows or self._spool.count or self._is_closing, PAUSES[1]):
                self._changed.wait_for(lambda: len(self._rows) >= BATCH or self._is_closing, LINGER)
                return
        self._ask(self._database.connect)  # whether it is still there

    def _write_batch(self) -> None:
        with self._changed:
            some = list(islice(self._rows, BATCH))
        if some:
            self._send([row for _, row in some])
            self._remove_to(some[-1][0])

    def _replay(self) -> None:
        """Writes the rows of the oldest file on the disk, if there is one, to the database, and removes the file."""
        path = self._spool.oldest()
        if path is None:
            return
        damaged = 0
        try:
            lines = read_spooled(path)
            while some := list(islice(lines, BATCH)):
                if self._is_closing:
                    return  # the next process sends the whole file again; the database keeps each row once
                rows = [row for row in map(_read_again, some) if row is not None]
                damaged += len(some) - len(rows)
                self._send(rows)
                self._write_batch()  # new rows need not wait for old ones
        except OSError:
            self._spool.leave_oldest()
        else:
            self._spool.remove_oldest()
        with self._changed:
            self._dropped += damaged

    def _send(self, entries: list[dict[str, Any]]) -> None:
        rows = [entry["verdict"] for entry in entries if "verdict" in entry]
        said = [entry["feedback"] for entry in entries if "feedback" in entry]
        if entries:
            written, refused = self._ask(lambda: self._database.write(rows, said))
            with self._changed:
                self._written += written
                self._dropped += refused
            self._tell(None)

    def _ask(self, work: Callable[[], Any]) -> Any:
        """Returns the result of a request to the database, and notes since when it is busy."""
        with self._changed:
            self._since = time.monotonic()
        done = work()
        with self._changed:
            self._since, self._is_first = None, False
            self._changed.notify_all()
        return done

    def _tell(self, problem: str | None) -> None:
        with self._changed:
            self._problem, self._since, self._is_first = problem, None, False
            self._pause = PAUSES[0] if problem is None else self._pause
            self._changed.notify_all()

    def _lost(self) -> str | None:
        """Returns why the database counts as lost, or `None`."""
        return self._problem or (SILENT if self._is_silent() else None)

    def _is_silent(self) -> bool:
        return self._since is not None and time.monotonic() > self._since + PATIENCE

    def _reading(self) -> Database:
        """Returns the database. Raises `LogError` if it does not answer, so that the caller need not wait."""
        with self._changed:
            if self._is_silent():
                raise LogError(self._problem or SILENT)
        return self._database

    # The thread that moves rows to the disk

    def _spill(self) -> None:
        while not self._is_closing:
            with self._changed:
                self._changed.wait_for(lambda: self._is_closing or self._must_spill(), PATIENCE / 4)
                must = self._must_spill()
            if must and not self._spill_some():
                time.sleep(PATIENCE / 4)  # the disk is full or lost

    def _must_spill(self) -> bool:
        return bool(self._rows) and (self._lost() is not None or 2 * len(self._rows) >= self._most)

    def _spill_some(self) -> bool:
        """Moves the oldest rows to the disk. Returns whether that was possible."""
        with self._changed:
            some = list(islice(self._rows, BATCH))
        if some:
            try:
                self._spool.append(row for _, row in some)
            except (OSError, SpoolFullError):
                return False
            self._remove_to(some[-1][0])
        return True

    def _remove_to(self, number: int) -> None:
        """Removes rows up to this one, if the other thread has not done so."""
        with self._changed:
            while self._rows and self._rows[0][0] <= number:
                self._rows.popleft()
            self._changed.notify_all()


def open_log(url: str, spool: Path, *, queue: int = QUEUE, spool_bytes: int = MOST_BYTES) -> Log:
    """Returns the log at `sqlite:///PATH` or `postgresql://…`, after waiting at most two seconds for the database.

    Args:
        url: of the database.
        spool: a folder for rows that cannot be written yet; rows that are already there are written first.
        queue: rows that wait in memory, at most.
        spool_bytes: bytes in the spool, at most.

    Raises:
        SettingError: the URL is not that of such a database, or the database belongs to another program.
        MissingExtraError: sqlalchemy, or PostgreSQL's driver, is not installed.
    """
    require("sqlalchemy", of="the log", extra="serve")
    from blemish.log.database import Database

    log = Log(Database(url), Spool(spool), queue=queue)
    log.start()
    return log


def read_log(url: str, wanted: Filter) -> Iterator[Verdict]:
    """Returns all verdicts in a log, newest first, in memory that does not grow with them; the log is only read.

    Raises:
        SettingError: there is no log.
        LogError: the database does not answer.
        MissingExtraError: sqlalchemy, or PostgreSQL's driver, is not installed.
    """
    require("sqlalchemy", of="the log", extra="serve")
    from blemish.log.database import Database

    database = Database(url, is_kept=False)
    database.connect()

    def read() -> Iterator[Verdict]:
        try:
            yield from database.every(wanted)
        finally:
            database.close()

    return read()


def _checked(said: dict[str, Any]) -> dict[str, Any]:
    """Returns a row of feedback. Raises `ValueError`, `TypeError` or `KeyError` if it is not valid."""
    row = {"id": said["id"], "said": said["said"], "said_at": float(said["said_at"])}
    if not is_id(row["id"]) or row["said"] not in get_args(Feedback) or not math.isfinite(row["said_at"]):
        raise ValueError(f"no such feedback: {row!r}")
    return row


def _read_again(entry: dict[str, Any] | None) -> dict[str, Any] | None:
    """Returns a row that was read from the disk; `None` if it is not valid."""
    try:
        if entry is not None and "feedback" in entry:
            return {"feedback": _checked(entry["feedback"])}
        return None if entry is None else {"verdict": row_of(verdict_of(entry["verdict"]))}
    except Exception:  # a damaged line may hold anything
        return None
