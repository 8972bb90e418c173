"""Finds the image files of a folder as they come, each when it is complete.

A file is complete when the program that wrote it has closed it, or has moved it in; the system reports this at once.
On network drives it does not, so the folder is scanned repeatedly, and a file counts as complete when its size and time
of change stay the same for a while. Only decoding shows whether an image is whole; `again` takes back one that is not,
since it may still be written.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import accumulate, islice
from pathlib import Path

from blemish.errors import SourceError
from blemish.images.files import SUFFIXES
from blemish.storage.cards import reason_of
from blemish.watching.events import Events

SETTLED = 0.5
"""Seconds for which a file must not change, if the system does not report that it was closed."""

IN_NEW = 0.1
"""The same for a file in a new folder: it may have been closed before the system began to report."""

RESCAN = 5.0
"""Seconds between scans of the folder although the system reports each file, in case it missed one."""

BACK = 0.5
"""Seconds between checks whether a lost folder is back."""

SHARE = 5
"""The pause after a scan is at least this many times as long as the scan."""

RETRY = (0.1, 1.0)
"""Seconds after which an image that is not whole is read again: at first, and at most."""


@dataclass
class Arrival:
    """An image file.

    Attributes:
        path: below the folder, with `/` between names.
        size: its bytes.
        modified: when it was changed last, in nanoseconds since 1970.
        since: when it was last seen to change, or first seen, by `time.monotonic`.
        is_told: whether the system reported that it is complete.
        due: when it is checked next, by `time.monotonic`.
        tries: how often it was not whole.
    """

    path: str
    size: int
    modified: int
    since: float
    is_told: bool
    due: float
    tries: int = 0


class Arrivals:
    """The images of a folder and its sub-folders: first those that are there already, from the oldest on.

    Links, names that begin with a dot, and files without the suffix of an image are left out.

    Args:
        root: the folder.
        excluded: folders below it that are left out.
        poll: seconds between scans of the folder; `None` if the system reports each file.
        is_done: returns whether a file of this path, size and time of change is finished.
        say: called with a line when the folder is lost, and when it is back.

    Raises:
        SourceError: the folder does not exist, or cannot be read.
    """

    def __init__(
        self,
        root: Path,
        excluded: Collection[Path],
        poll: float | None,
        is_done: Callable[[str, int, int], bool],
        say: Callable[[str], None],
    ) -> None:
        self.root, self.poll, self.is_done, self.say = root, poll, is_done, say
        real = os.path.realpath(root)
        self._excluded = {os.path.relpath(os.path.realpath(path), real).replace(os.sep, "/") for path in excluded}
        self._waiting: dict[str, Arrival] = {}
        self._events: Events | None = None
        self._identity: tuple[int, int] | None = None
        self._is_first, self._is_gone = True, False
        self._scan_at = self._check_at = 0.0
        try:
            with os.scandir(root):
                pass
        except OSError as error:
            raise SourceError(f"{root}: cannot be watched ({reason_of(error)}); give a folder") from None

    def take(self, most: int, timeout: float) -> list[Arrival]:
        """Returns at most `most` complete files, in order of arrival; waits for one until the timeout, in seconds."""
        end = time.monotonic() + timeout
        while True:
            self._look()
            ready = self._ready(most)
            left = end - time.monotonic()
            if ready or left <= 0:
                return ready
            soon = min((one.due for one in self._waiting.values()), default=end)
            wait = max(0.0, min(left, BACK, soon - time.monotonic(), max(0.01, self._scan_at - time.monotonic())))
            if self._events is not None:
                self._events.wait(wait)
            else:
                time.sleep(wait)

    def again(self, arrival: Arrival) -> None:
        """Takes back an image that is not whole; it is returned again later."""
        arrival.due = time.monotonic() + min(RETRY[1], RETRY[0] * 2**arrival.tries)
        arrival.tries += 1
        self._waiting.setdefault(arrival.path, arrival)

    @property
    def is_empty(self) -> bool:
        """Whether no file waits and the folder was scanned."""
        return not self._is_first and not self._waiting

    def close(self) -> None:
        """Ends the watch."""
        if self._events is not None:
            self._events.close()
        self._events = None

    def _look(self) -> None:
        """Adds the reported files, and scans the folder if it is time."""
        if time.monotonic() >= self._check_at:
            self._check()
            self._check_at = time.monotonic() + BACK
        if self._identity is None:
            return
        if self._events is not None:
            for told in self._events.taken():
                self._told(*told)
        start = time.monotonic()
        if start >= self._scan_at:
            self._scan(self.root, self._settled)
            self._is_first = False
            end = time.monotonic()
            pause = RESCAN if self.poll is None else self.poll
            self._scan_at = end + max(pause, SHARE * (end - start))

    def _check(self) -> None:
        """Notices that the folder is lost or back; if another folder has replaced it, that one is followed."""
        try:
            status = os.stat(self.root)
            with os.scandir(self.root):
                pass
        except OSError as error:
            if not self._is_gone:
                self.say(f"{self.root}: is gone ({reason_of(error)}); waiting until it is back")
            self._is_gone, self._identity = True, None
            self.close()
            return
        if self._is_gone:
            self.say(f"{self.root}: is back")
        identity = (status.st_dev, status.st_ino)
        is_followed = self.poll is not None or (self._events is not None and self._events.is_alive)
        if identity == self._identity and is_followed:
            return
        self._is_gone, self._identity, self._scan_at = False, identity, 0.0
        self.close()
        if self.poll is None:
            try:
                self._events = Events(self.root)
            except OSError as error:
                self.poll = 1.0
                self.say(f"{self.root}: the system cannot report new files ({reason_of(error)}); looking every second")

    def _told(self, path: str, is_folder: bool, now: float) -> None:
        """Adds what the system reported: a complete file, or a new folder."""
        if self._is_left_out(path):
            return
        if is_folder:
            self._scan(Path(path), IN_NEW)
            return
        try:
            status = os.lstat(path)
        except OSError:
            return
        if self._is_image(os.path.basename(path), status):
            name = self._named(path)
            self._waiting.pop(name, None)
            is_complete = Events.tells_complete
            due = now if is_complete else now + self._settled
            self._waiting[name] = Arrival(name, status.st_size, status.st_mtime_ns, now, is_complete, due)

    def _scan(self, folder: Path, settled: float) -> None:
        """Scans a folder and its sub-folders for unfinished files, which must not change for `settled` seconds."""
        found: list[tuple[int, str, int]] = []
        folders = [str(folder)]
        while folders:
            here = folders.pop()
            try:
                with os.scandir(here) as entries:
                    for entry in entries:
                        if entry.name.startswith(".") or entry.is_symlink():
                            continue
                        if entry.is_dir(follow_symlinks=False):
                            if self._named(entry.path) not in self._excluded:
                                folders.append(entry.path)
                            continue
                        status = entry.stat(follow_symlinks=False)
                        if self._is_image(entry.name, status):
                            found.append((status.st_mtime_ns, self._named(entry.path), status.st_size))
            except OSError:
                continue  # it was removed meanwhile, or must not be read
        now, wall = time.monotonic(), time.time_ns()
        for modified, path, size in sorted(found):
            if path in self._waiting or self.is_done(path, size, modified):
                continue
            is_old = self._is_first and wall - modified > 1e9 * SETTLED
            due = now if is_old else now + settled
            self._waiting[path] = Arrival(path, size, modified, now, False, due)

    @property
    def _settled(self) -> float:
        return SETTLED if self.poll is None else min(SETTLED, self.poll)

    def _ready(self, most: int) -> list[Arrival]:
        """Removes complete files and returns them; a file that has changed since the last check keeps waiting."""
        now = time.monotonic()
        ready: list[Arrival] = []
        for arrival in list(islice((one for one in self._waiting.values() if one.due <= now), 4 * most)):
            try:
                status = os.lstat(self.root / arrival.path)
            except OSError:
                del self._waiting[arrival.path]
                continue
            if (status.st_size, status.st_mtime_ns) != (arrival.size, arrival.modified):
                arrival.size, arrival.modified, arrival.since = status.st_size, status.st_mtime_ns, now
                if not arrival.is_told:
                    arrival.due = now + self._settled
                    continue
            ready.append(self._waiting.pop(arrival.path))
            if len(ready) == most:
                break
        return ready

    def _is_image(self, name: str, status: os.stat_result) -> bool:
        is_named = not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES
        return is_named and stat.S_ISREG(status.st_mode)

    def _is_left_out(self, path: str) -> bool:
        """Returns whether a path is in an excluded folder, or in one whose name begins with a dot."""
        names = self._named(path).split("/")
        below = accumulate(names, lambda folder, name: f"{folder}/{name}")
        return any(name.startswith(".") for name in names) or not self._excluded.isdisjoint(below)

    def _named(self, path: str) -> str:
        return os.path.relpath(path, self.root).replace(os.sep, "/")
