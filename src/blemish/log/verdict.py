"""One row of the log: a model's verdict on one image, and a person's later mark."""

from __future__ import annotations

import math
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any, Literal, get_args

from blemish.maps import Box

Role = Literal["decides", "shadow"]
Feedback = Literal["good", "anomalous"]

BOXES = 200
"""Boxes of one row, at most: the first ones, which have the highest peaks."""

LONGEST = {"model": 200, "version": 64, "name": 1_000, "digest": 128, "error": 2_000}
"""Characters of each text in a row, at most."""

_ID = re.compile(r"[0-9a-f]{32}")
_NUMBERS = ("score", "p_value", "threshold", "false_alarm_rate", "latency")


@dataclass(frozen=True)
class Verdict:
    """A model's verdict on one image.

    Attributes:
        id: 32 hexadecimal digits, see `new_id`; the row of a shadow has its own.
        time: seconds since 1970, UTC.
        model: its name.
        version: the first 12 hexadecimal digits of the digest of its card.
        role: `decides`, or `shadow` for a second model that does not decide.
        request: the id of the deciding verdict on the same image.
        name: of the image, as given: a file's name without folders, or a camera; `None` for bytes without a name.
        digest: of the picture, in hexadecimal; empty if it could not be read.
        score: NaN if there is an error, like `p_value`.
        p_value: the share of good images that score as high.
        is_anomaly: `None` if there is an error.
        threshold: of the verdict.
        false_alarm_rate: the stated rate of the threshold.
        boxes: in the image's own pixels.
        latency: seconds from the image's arrival to its verdict.
        error: why there is no verdict, or `None`.
        feedback: a person's mark on the image, or `None`; `Log.feedback` adds it, not `Log.put`.
    """

    id: str
    time: float
    model: str
    version: str
    role: Role
    request: str
    name: str | None
    digest: str
    score: float
    p_value: float
    is_anomaly: bool | None
    threshold: float
    false_alarm_rate: float
    boxes: tuple[Box, ...]
    latency: float
    error: str | None = None
    feedback: Feedback | None = None

    def as_dict(self) -> dict[str, Any]:
        """Returns the row as JSON values: the time in ISO 8601, UTC, and `None` for NaN."""
        return {**row_of(self), "time": iso(self.time), "feedback": self.feedback}


def new_id() -> str:
    """Returns 32 hexadecimal digits: milliseconds since 1970, so that ids sort by time, and 80 random bits."""
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"


def is_id(text: object) -> bool:
    """Returns whether a text has the form of an id; such a text is also safe as a file name."""
    return isinstance(text, str) and _ID.fullmatch(text) is not None


def iso(moment: float) -> str:
    """Returns seconds since 1970 as ISO 8601 with microseconds, in UTC: `2026-01-31T12:00:00.000000Z`."""
    return datetime.fromtimestamp(moment, timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")


def row_of(verdict: Verdict) -> dict[str, Any]:
    """Returns a verdict's columns without the feedback, as values for a database and for JSON.

    Long texts are cut, characters that databases refuse are written as escapes, and a number that is not finite becomes
    `None`.

    Raises:
        ValueError, TypeError, OverflowError: an id, the time or the role is not valid.
    """
    if not (is_id(verdict.id) and is_id(verdict.request)) or verdict.role not in get_args(Role):
        raise ValueError(f"no such verdict: {verdict.id!r}, {verdict.role!r}")
    iso(verdict.time)  # raises unless it is a time
    row: dict[str, Any] = {
        "id": verdict.id,
        "time": float(verdict.time),
        "model": kept_text(verdict.model, "model"),
        "version": kept_text(verdict.version, "version"),
        "role": verdict.role,
        "request": verdict.request,
        "name": None if verdict.name is None else kept_text(verdict.name, "name"),
        "digest": kept_text(verdict.digest, "digest"),
    }
    for name in _NUMBERS:
        value = float(getattr(verdict, name))
        row[name] = value if math.isfinite(value) else None
    row["is_anomaly"] = None if verdict.is_anomaly is None else bool(verdict.is_anomaly)
    row["boxes"] = [_box(box) for box in verdict.boxes[:BOXES]]
    row["error"] = None if verdict.error is None else kept_text(verdict.error, "error")
    return {name: row[name] for name in COLUMNS}


def verdict_of(row: Mapping[str, Any]) -> Verdict:
    """Returns the verdict of such columns, with its feedback if they have it.

    Raises:
        KeyError, ValueError, TypeError, AttributeError, OverflowError: they are not those of a verdict.
    """
    numbers = {name: math.nan if row[name] is None else float(row[name]) for name in _NUMBERS}
    boxes = tuple(Box(**{key: box[key] for key in _SIDES}, peak=float(box["peak"])) for box in row["boxes"])
    others = {name: row[name] for name in COLUMNS if name not in numbers}
    return Verdict(**{**others, **numbers, "boxes": boxes, "feedback": row.get("feedback")})


COLUMNS = tuple(name for name in Verdict.__dataclass_fields__ if name != "feedback")
"""The columns of the table of verdicts, in order."""

_SIDES = tuple(name for name in Box.__dataclass_fields__ if name != "peak")


def kept_text(text: str, name: str) -> str:
    """Returns a text that every database accepts: without NUL and unpaired surrogates, and not too long."""
    short = text[: LONGEST[name]].replace("\0", "\\0")
    return short.encode("utf-8", "backslashreplace").decode()[: LONGEST[name]]


def _box(box: Box) -> dict[str, Any]:
    sides = {name: int(value) for name, value in asdict(box).items() if name != "peak"}
    peak = float(box.peak)
    return {**sides, "peak": peak if math.isfinite(peak) else 0.0}
