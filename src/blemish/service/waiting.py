"""What waits in the worker: images for their verdict first, then pictures, then the images of shadows."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from blemish.model import Model

BATCH = 32
"""Images that are taken at once, at most."""

ENOUGH = 16
"""Images that are taken while others are being judged: few at a time would take longer for each, and those that wait
for more of them lose nothing, since the cores are busy."""

SHADOWS = 8
"""Images for a shadow that are taken at once: few, since those that come meanwhile wait for them."""

MOST_SHADOWS = 64
"""Images that may wait for a shadow; those beyond it are dropped."""


@dataclass
class Job:
    """One image, and what to do with it.

    Attributes:
        asked: the header of its frame.
        image: bytes of a file.
        model: that does it.
        second: the shadow, if there is one.
        size: height and width of the image, once they are known.
        is_anomaly: the verdict, once it is known.
    """

    asked: dict[str, Any]
    image: bytes
    model: Model
    second: Model | None = None
    size: tuple[int, int] = (0, 0)
    is_anomaly: bool = False


class Waiting:
    """Jobs that several threads take from."""

    def __init__(self) -> None:
        self._judge: deque[Job] = deque()
        self._draw: deque[Job] = deque()
        self._shadow: deque[Job] = deque()
        self._some = threading.Condition()
        self._busy: Counter[str] = Counter()

    def put(self, job: Job) -> None:
        """Takes in an image for its verdict, or for a picture."""
        with self._some:
            (self._judge if job.asked["do"] == "judge" else self._draw).append(job)
            self._some.notify()

    def put_shadow(self, job: Job) -> bool:
        """Takes in an image for its shadow. Returns whether there was room for it."""
        with self._some:
            if len(self._shadow) >= MOST_SHADOWS:
                return False
            self._shadow.append(job)
            self._some.notify()
            return True

    @contextmanager
    def take(self) -> Iterator[tuple[str, list[Job]]]:
        """Waits for jobs and yields what to do, `judge`, `draw` or `shadow`, and jobs for one model, until it is done.

        While somebody judges already, only several images together are taken. Pictures and shadows are left to one
        thread, so that another one is always free for verdicts.
        """
        with self._some:
            while (found := self._next()) is None:
                self._some.wait()
            self._busy[found[0]] += 1
        try:
            yield found
        finally:
            with self._some:
                self._busy[found[0]] -= 1
                self._some.notify_all()

    def _next(self) -> tuple[str, list[Job]] | None:
        is_idle = not self._busy["judge"]
        if self._judge and (is_idle or len(self._judge) >= ENOUGH):
            return "judge", _alike(self._judge, BATCH)
        if self._busy["draw"] or self._busy["shadow"]:
            return None
        if self._draw:
            return "draw", _alike(self._draw, 1)
        return ("shadow", _alike(self._shadow, SHADOWS)) if self._shadow and is_idle and not self._judge else None


def _alike(queue: deque[Job], most: int) -> list[Job]:
    """Takes the first job and those behind it that are for the same models."""
    first = queue[0]
    taken: list[Job] = []
    others: list[Job] = []
    while queue and len(taken) < most:
        job = queue.popleft()
        (taken if job.model is first.model and job.second is first.second else others).append(job)
    queue.extendleft(reversed(others))
    return taken
