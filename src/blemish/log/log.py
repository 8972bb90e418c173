"""Writes verdicts to a database that may be slow or lost, and finds them again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from blemish.log.verdict import Feedback, Role, Verdict

QUEUE = 10_000
"""Rows that wait in memory, at most; those beyond go to the spool."""


@dataclass(frozen=True)
class Filter:
    """Which verdicts to find; what is `None` does not count.

    Attributes:
        model: its name.
        role: `decides` or `shadow`.
        since, until: seconds since 1970, the first included, the last not.
        is_anomaly: the verdict.
        feedback: what a person said.
    """

    model: str | None = None
    role: Role | None = None
    since: float | None = None
    until: float | None = None
    is_anomaly: bool | None = None
    feedback: Feedback | None = None


@dataclass(frozen=True)
class Found:
    """Verdicts, newest first, and where to go on; `None` if there are no more."""

    verdicts: tuple[Verdict, ...]
    next: str | None


@dataclass(frozen=True)
class Counts:
    """Rows that were written, wait in memory, wait on the disk, and were lost; and whether the database answers."""

    written: int
    waiting: int
    spooled: int
    dropped: int
    is_connected: bool


class Log(Protocol):
    """Takes verdicts without delay, and finds them."""

    def put(self, verdict: Verdict) -> None:
        """Takes in a row. Never waits for the database, never raises."""

    def feedback(self, id: str, said: Feedback) -> None:
        """Takes in what a person said of an image. Never waits, never raises."""

    def get(self, id: str) -> Verdict | None:
        """Returns one row, or `None`. Raises `LogError` if the database is lost."""

    def find(self, wanted: Filter, *, limit: int = 100, after: str | None = None) -> Found:
        """Returns verdicts, newest first, from where `Found.next` of an earlier call says. Raises `LogError`."""

    @property
    def counts(self) -> Counts:
        """What became of the rows."""

    def flush(self, timeout: float) -> bool:
        """Waits until no row waits in memory. Returns whether that came true."""

    def close(self) -> None:
        """Writes or spools what waits, and ends."""


def open_log(url: str, spool: Path, *, queue: int = QUEUE) -> Log:
    """Returns the log at `sqlite:///PATH` or `postgresql://…`.

    Args:
        url: of the database.
        spool: a folder for rows that cannot be written yet.
        queue: rows that wait in memory, at most.

    Raises:
        SettingError: the URL is of no such database, or the database is of another program.
        MissingExtraError: sqlalchemy, or PostgreSQL's driver, is not installed.
    """
    raise NotImplementedError
