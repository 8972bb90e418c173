"""What the system reports about a folder: files that were closed after writing or moved in, and new folders."""

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
"""File systems of these kinds do not report what other machines write."""

Event = tuple[str, bool, float]
"""A path, whether it is a folder, and the time of the report, by `time.monotonic`."""

PAIRING = 0.02
"""Seconds for which watchdog holds the first half of a move, and all later events, until the second half comes."""


class Events:
    """Follows a folder and its sub-folders, but no links.

    Args:
        root: the folder.

    Raises:
        OSError: the system cannot follow so many folders.
    """

    tells_complete = IS_LINUX
    """Whether a reported file is complete, or perhaps only new or changed."""

    def __init__(self, root: Path) -> None:
        self._queue: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._first: Event | None = None
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

    def taken(self) -> Iterator[Event]:
        """Yields the events since the last call."""
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
        """Whether the folder is still followed; false once it was removed."""
        return all(emitter.is_alive() for emitter in self._observer.emitters)

    def close(self) -> None:
        """Ends the threads."""
        self._observer.stop()
        self._observer.join()


class _Handler:
    """Receives watchdog's events; on Linux only those of complete files and of folders."""

    def __init__(self, told: queue.SimpleQueue[Event]) -> None:
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

    # A file that is moved out of the folder would delay all later events by half a second.
    pairing: Any
    try:
        pairing = import_module("watchdog.observers.inotify_move_event_grouper").InotifyMoveEventGrouper
    except ImportError:  # watchdog before 7
        pairing = import_module("watchdog.observers.inotify_buffer").InotifyBuffer
    pairing.delay = PAIRING
    return InotifyObserver(generate_full_events=True)  # tells a file that is moved in from one that is being written


def is_on_network(folder: Path) -> bool:
    """Returns whether the folder's file system does not report files of other machines; `False` if unknown."""
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
