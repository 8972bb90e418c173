"""Writes images to the disk beside the answers, in a thread of its own; a slow disk delays nobody."""

from __future__ import annotations

import queue
import re
import threading
from collections.abc import Callable

from blemish.service.saying import say

MOST = 64
"""Images that may wait to be written; those beyond it are not kept."""

IDS = re.compile("[0-9a-f]{32}[.a-z]*")
"""Names of images, which differ where the reason is the same."""


class Keeping:
    """A thread that does small works in order.

    Attributes:
        dropped: works that were left out, or that failed.
    """

    def __init__(self) -> None:
        self._works: queue.Queue[Callable[[], None] | None] = queue.Queue(MOST)
        self.dropped = 0
        self._told = ""
        self._thread = threading.Thread(target=self._run, name="keeping", daemon=True)
        self._thread.start()

    def put(self, work: Callable[[], None]) -> None:
        """Takes in a work, or drops it if too many wait."""
        try:
            self._works.put_nowait(work)
        except queue.Full:
            self.dropped += 1

    def close(self) -> None:
        """Does what waits, for five seconds at most."""
        self._works.put(None)
        self._thread.join(5)

    def _run(self) -> None:
        while (work := self._works.get()) is not None:
            try:
                work()
                self._told = ""
            except Exception as error:  # a full disk, above all: the next one may fit again
                self.dropped += 1
                text = f"{type(error).__name__}: {error}"
                if (kind := IDS.sub("ID", text)) != self._told:
                    say(f"an image is not kept ({text})")
                self._told = kind
