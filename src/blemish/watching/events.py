"""What the system tells of a folder: files that were closed after writing or moved in, and folders that are new."""

from __future__ import annotations

import os
import platform
import queue
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

IS_LINUX = platform.system() == "Linux"

NETWORK = ("nfs", "cifs", "smb", "9p", "afs", "fuse.", "glusterfs", "ceph", "lustre", "virtiofs", "vboxsf", "prl_fs")
"""File systems of these kinds do not tell of what other machines write."""

Told = tuple[str, bool, float]
"""A path, whether it is a folder, and when that was told, by `time.monotonic`."""

PAIRING = 0.02
"""Seconds for which watchdog keeps the first half of a move, and all that comes after it, for the second half."""


class Events:
    """Follows a folder and those below it, without links.

    Args:
        root: the folder.

    Raises:
        OSError: the system cannot follow so many folders.
    """

    tells_complete = IS_LINUX
    """Whether a file that is told of is complete, or only new or changed."""

    def __init__(self, root: Path) -> None:
        self._queue: queue.SimpleQueue[Told] = queue.SimpleQueue()
        self._first: Told | None = None
        self._observer = _observer()
        events = _event_types()
        self._observer.schedule(_Handler(self._queue), str(root), recursive=True, event_filter=list(events))
        self._observer.start()

    def wait(self, timeout: float) -> None:
        """Waits for an event until the timeout."""
        if self._first is None:
            try:
                self._first = self._queue.get(timeout=timeout) if timeout > 0 else self._queue.get_nowait()
            except queue.Empty:
                return

    def taken(self) -> Iterator[Told]:
        """Yields what came since."""
        if self._first is not None:
            first, self._first = self._first, None
            yield first
        while True:
            try:
                yield self._queue.get_nowait()
            except queue.Empty:
                return

    @property
    def is_alive(self) -> bool:
        """Whether the folder is still followed; it is not once it was removed."""
        return all(emitter.is_alive() for emitter in self._observer.emitters)

    def close(self) -> None:
        """Ends the threads."""
        self._observer.stop()
        self._observer.join()


class _Handler:
    """What watchdog calls with each event; on Linux only files that are complete are told."""

    def __init__(self, told: queue.SimpleQueue[Told]) -> None:
        self._told = told

    def dispatch(self, event: Any) -> None:
        path = os.fsdecode(event.dest_path if event.event_type == "moved" else event.src_path)
        if path:
            self._told.put((path, bool(event.is_directory), time.monotonic()))


def _event_types() -> tuple[type[Any], ...]:
    from watchdog import events

    folders = (events.DirCreatedEvent, events.DirMovedEvent)
    if IS_LINUX:
        return (events.FileClosedEvent, events.FileMovedEvent, *folders)
    return (events.FileCreatedEvent, events.FileModifiedEvent, events.FileMovedEvent, *folders)


def _observer() -> Any:
    if not IS_LINUX:
        from watchdog.observers import Observer

        return Observer()
    from watchdog.observers.inotify import InotifyObserver

    # A file that is moved out of the folder would hold back all that come after it for half a second.
    pairing: Any
    try:
        pairing = import_module("watchdog.observers.inotify_move_event_grouper").InotifyMoveEventGrouper
    except ImportError:  # watchdog before 7
        pairing = import_module("watchdog.observers.inotify_buffer").InotifyBuffer
    pairing.delay = PAIRING
    return InotifyObserver(generate_full_events=True)  # so that moving in is told apart from beginning to write


def is_on_network(folder: Path) -> bool:
    """Whether a folder is on a file system where files of other machines are not told; `False` if unknown."""
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    real = os.path.realpath(folder)
    kind, longest = "", -1
    for mount in mounts:
        _, place, found, *_ = mount.split(" ")
        place = place.replace("\\040", " ")
        if (real == place or real.startswith(place.rstrip("/") + "/")) and len(place) >= longest:
            kind, longest = found, len(place)
    return kind.startswith(NETWORK)
