"""What to find in the log, what was found, and where to go on."""

from __future__ import annotations

import math
from dataclasses import dataclass

from blemish.errors import SettingError
from blemish.log.verdict import Feedback, Role, Verdict, is_id

MOST = 10_000
"""Verdicts that are found at once, at most."""


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
class Bucket:
    """The scores of some minutes.

    Attributes:
        start: seconds since 1970.
        count: verdicts in it, those with an error left out.
        anomalies: how many of them are anomalous.
        lowest, median, highest: of the scores.
    """

    start: float
    count: int
    anomalies: int
    lowest: float
    median: float
    highest: float


def cursor_of(verdict: Verdict) -> str:
    """Returns where to go on after a verdict: its time and its id, so that rows that come meanwhile change nothing."""
    return f"{verdict.time!r}_{verdict.id}"


def read_cursor(text: str) -> tuple[float, str]:
    """Returns the time and the id in a cursor. Raises `SettingError` if it is none."""
    moment, _, id = text[:100].partition("_")
    try:
        if is_id(id) and math.isfinite(float(moment)):
            return float(moment), id
    except ValueError:
        pass
    raise SettingError(f"after {text[:100]!r} is no place in the log; give `next` of an earlier answer")


def check_limit(limit: int) -> None:
    """Raises `SettingError` if so many verdicts cannot be found at once."""
    if not 1 <= limit <= MOST:
        raise SettingError(f"limit {limit} is out of range; give 1 to {MOST:,}")
