"""The worker's queue: images that wait for their verdict come first, then pictures, then images for shadows."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from blemish.model import Model

BATCH = 32
"""Images that are judged together, at most."""

ENOUGH = 16
"""Images that must wait before more are taken while others are being judged. Larger batches are faster for each image,
and waiting costs nothing while the cores are busy."""

SHADOWS = 8
"""Images that a shadow judges together, at most: few, since new images wait meanwhile."""

MOST_SHADOWS = 64
"""Images that may wait for a shadow; any more are dropped."""


@dataclass
class Job:
    """One image, and what to do with it.

    Attributes:
        asked: the header of its frame.
        image: bytes of a file.
        model: the model that judges it.
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
    """A queue of jobs for several threads."""

    def __init__(self) -> None:
        self._judge: deque[Job] = deque()
        self._draw: deque[Job] = deque()
        self._shadow: deque[Job] = deque()
        self._some = threading.Condition()
        self._busy: Counter[str] = Counter()

    def put(self, job: Job) -> None:
        """Adds an image that waits for its verdict, or for a picture."""
        with self._some:
            (self._judge if job.asked["do"] == "judge" else self._draw).append(job)
            self._some.notify()

    def put_shadow(self, job: Job) -> bool:
        """Adds an image for its shadow. Returns whether there was room for it."""
        with self._some:
            if len(self._shadow) >= MOST_SHADOWS:
                return False
            self._shadow.append(job)
            self._some.notify()
            return True

    @contextmanager
    def take(self) -> Iterator[tuple[str, list[Job]]]:
        """Waits for jobs; yields what to do (`judge`, `draw` or `shadow`) and the jobs of one model.

        While another thread judges, images are taken only if several wait. Only one thread takes pictures and shadows,
        so that another one is always free for verdicts.
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
    """Takes the first job, and later jobs for the same models."""
    first = queue[0]
    taken: list[Job] = []
    others: list[Job] = []
    while queue and len(taken) < most:
        job = queue.popleft()
        (taken if job.model is first.model and job.second is first.second else others).append(job)
    queue.extendleft(reversed(others))
    return taken
