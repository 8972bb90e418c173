"""One row of the log: what a model said of one image, and what a person said of it later."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import Literal

from blemish.maps import Box

Role = Literal["decides", "shadow"]
Feedback = Literal["good", "defect"]


@dataclass(frozen=True)
class Verdict:
    """What a model said of one image, and when.

    Attributes:
        id: 32 hexadecimal digits, see `new_id`; the row of a shadow has its own.
        time: seconds since 1970, UTC.
        model: its name.
        version: the first 12 hexadecimal digits of the digest of its card.
        role: `decides`, or `shadow` for a second model that only looks on.
        request: the id of the deciding verdict of the same image.
        name: of the image, as it was given: a file's name without folders, or a camera; `None` for bytes alone.
        digest: of the picture, in hexadecimal; empty if it could not be read.
        score: not a number if there is an error, as `p_value` is.
        p_value: the share of good images that score as high.
        is_anomaly: `None` if there is an error.
        threshold: the one that decided.
        false_alarm_rate: the rate that is stated of it.
        boxes: in the image's own pixels.
        latency: seconds from when the image was there to the verdict.
        error: why there is no verdict, or `None`.
        feedback: what a person said of the image, or `None`.
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


def new_id() -> str:
    """Returns 32 hexadecimal digits: the milliseconds since 1970, so that ids sort by time, and 80 random bits."""
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"
