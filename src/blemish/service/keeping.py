"""Writes images to the disk in a thread of its own, so that a slow disk delays no answer."""

from __future__ import annotations

import queue
import re
import threading
from collections.abc import Callable

from blemish.service.saying import say

MOST = 64
"""Images that may wait to be written; any more are not kept."""

IDS = re.compile("[0-9a-f]{32}[.a-z]*")
"""Names of images; messages that differ only in these have the same reason."""


class Keeping:
    """A thread that runs small tasks in order.

    Attributes:
        dropped: how many tasks were left out, or failed.
    """

    def __init__(self) -> None:
        self._works: queue.Queue[Callable[[], None] | None] = queue.Queue(MOST)
        self.dropped = 0
        self._told = ""
        self._thread = threading.Thread(target=self._run, name="keeping", daemon=True)
        self._thread.start()

    def put(self, work: Callable[[], None]) -> None:
        """Adds a task, or drops it if too many wait."""
        try:
            self._works.put_nowait(work)
        except queue.Full:
            self.dropped += 1

    def close(self) -> None:
        """Runs the tasks that wait, for five seconds at most."""
        self._works.put(None)
        self._thread.join(5)

    def _run(self) -> None:
        while (work := self._works.get()) is not None:
            try:
                work()
                self._told = ""
            except Exception as error:  # usually a full disk; the next image may fit again
                self.dropped += 1
                text = f"{type(error).__name__}: {error}"
                if (kind := IDS.sub("ID", text)) != self._told:
                    say(f"an image is not kept ({text})")
                self._told = kind
