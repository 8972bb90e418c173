"""Queries of the log: a filter, the verdicts that were found, and where the next ones begin."""

from __future__ import annotations

import math
from dataclasses import dataclass

from blemish.errors import SettingError
from blemish.log.verdict import Feedback, Role, Verdict, is_id

MOST = 10_000
"""Verdicts in one answer, at most."""


@dataclass(frozen=True)
class Filter:
    """Which verdicts to find; a field that is `None` is not used.

    Attributes:
        model: its name.
        role: `decides` or `shadow`.
        since, until: seconds since 1970; `since` is included, `until` is not.
        is_anomaly: the verdict.
        feedback: a person's mark.
    """

    model: str | None = None
    role: Role | None = None
    since: float | None = None
    until: float | None = None
    is_anomaly: bool | None = None
    feedback: Feedback | None = None


@dataclass(frozen=True)
class Found:
    """Verdicts, newest first, and where the next ones begin; `None` if there are no more."""

    verdicts: tuple[Verdict, ...]
    next: str | None


@dataclass(frozen=True)
class Bucket:
    """The scores in a span of time.

    Attributes:
        start: seconds since 1970.
        count: verdicts, without those with an error.
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
    """Returns where to continue after a verdict: its time and id, so that new rows do not change the place."""
    return f"{verdict.time!r}_{verdict.id}"


def read_cursor(text: str) -> tuple[float, str]:
    """Returns the time and the id in a cursor. Raises `SettingError` if the text is not a cursor."""
    moment, _, id = text[:100].partition("_")
    try:
        if is_id(id) and math.isfinite(float(moment)):
            return float(moment), id
    except ValueError:
        pass
    raise SettingError(f"after {text[:100]!r} is not a place in the log; give `next` of an earlier answer")


def check_limit(limit: int) -> None:
    """Raises `SettingError` if one answer cannot have so many verdicts."""
    if not 1 <= limit <= MOST:
        raise SettingError(f"limit {limit} is out of range; give 1 to {MOST:,}")
