"""Follows a folder: each new image is judged, its result is kept, and the file is then moved if asked for."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import stat
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from blemish.engines import BATCH, RunsOn
from blemish.errors import SettingError, SourceError, StorageError
from blemish.images.files import MAX_BYTES
from blemish.interrupts import hold
from blemish.log import new_id
from blemish.storage import Scratch
from blemish.storage.cards import reason_of
from blemish.watching.arrivals import Arrival, Arrivals
from blemish.watching.events import is_on_network
from blemish.watching.journal import Journal
from blemish.watching.live import LiveModel, Loaded
from blemish.watching.moving import Moves
from blemish.watching.record import STATE, Places, Record, Which, keep_trying
from blemish.watching.result import Kind, Result

PATIENCE = 5.0
"""Seconds after its last change during which an unreadable image is tried again: it may not be complete yet."""

IDLE = 0.5
"""Seconds after which the model and the log are checked although no image came."""

NETWORK_POLL = 1.0
"""Seconds between scans of a folder on a network drive."""

BYTES = 64 << 20
"""Bytes of files that are judged together, at most; a larger file is judged alone."""


@dataclass
class _File:
    """A file's bytes and their digest; `None` and empty if the decoder must read the file itself."""

    arrival: Arrival
    content: bytes | None
    digest: str


class Watch:
    """Judges the images of a folder as they come.

    Args:
        live: the model.
        arrivals: the images.
        record: keeps the results.
        moves: the folders to which files are moved.
        say: called with each line that a person should read.
        patience: seconds for which an unreadable image is tried again.

    Attributes:
        counts: images by verdict.
    """

    def __init__(
        self,
        live: LiveModel,
        arrivals: Arrivals,
        record: Record,
        moves: Moves,
        say: Callable[[str], None],
        patience: float = PATIENCE,
    ) -> None:
        self.live, self.arrivals, self.record, self.moves = live, arrivals, record, moves
        self.say, self.patience = say, patience
        self.counts: Counter[str] = Counter()
        self._told: set[str] = set()

    def run(self, *, once: bool = False) -> Iterator[Result]:
        """Yields the result of each image once it is on the disk, without end, or with `once` until none is left.

        Raises:
            ModelError: the model cannot be run.
        """
        while True:
            arrivals = self.arrivals.take(BATCH, 0.05 if once else IDLE)
            live = self.live.current
            if not arrivals:
                keep_trying(self.record.catch_up, self.say)
                if once and self.arrivals.is_empty:
                    return
            while arrivals:
                files, arrivals = self._read(arrivals)
                results = self._judged(live, files)
                if not results:
                    continue
                keep_trying(partial(self.record.keep, results), self.say)
                keep_trying(self.record.catch_up, self.say)
                self.counts.update(result.kind for result in results)
                yield from results
                for result in results:
                    self._move(result.path, result.kind)

    def _read(self, arrivals: list[Arrival]) -> tuple[list[_File], list[Arrival]]:
        """Returns files to judge together, and the remaining ones."""
        files: list[_File] = []
        total = 0
        for index, arrival in enumerate(arrivals):
            if files and total + arrival.size > BYTES:
                return files, arrivals[index:]
            done = self.record.journal.find(arrival.path)
            if done is not None and (done.size, done.modified) == (arrival.size, arrival.modified):
                self._move(arrival.path, done.kind)
                continue
            file = self._content(arrival)
            if file is None:
                continue
            if done is not None and file.digest and (done.size, done.digest) == (arrival.size, file.digest):
                self.record.journal.renew(arrival.path, arrival.size, arrival.modified)
                if arrival.is_told:
                    self.say(f"{arrival.path}: is the same image as before, so it is not judged again")
                self._move(arrival.path, done.kind)
                continue
            files.append(file)
            total += arrival.size
        return files, []

    def _content(self, arrival: Arrival) -> _File | None:
        """Returns the file as it is now; `None` if it is no longer there or still being written."""
        path = self.arrivals.root / arrival.path
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        try:
            with open(os.open(path, flags), "rb") as file:
                before = os.fstat(file.fileno())
                if not stat.S_ISREG(before.st_mode):
                    return None
                content = file.read(MAX_BYTES + 1) if before.st_size <= MAX_BYTES else None
                after = os.fstat(file.fileno())
        except FileNotFoundError:
            return None
        except OSError:
            return _File(arrival, None, "")
        now = (after.st_size, after.st_mtime_ns)
        if now != (arrival.size, arrival.modified):
            arrival.size, arrival.modified, arrival.since = *now, time.monotonic()
        if now != (before.st_size, before.st_mtime_ns) or (content is not None and len(content) != after.st_size):
            self.arrivals.again(arrival)
            return None
        return _File(arrival, content, "" if content is None else hashlib.sha256(content).hexdigest())

    def _judged(self, live: Loaded, files: Sequence[_File]) -> list[Result]:
        """Returns the results of files; an unreadable one is tried again for a while, since it may not be complete."""
        results: list[Result] = []
        sources = [self.arrivals.root / file.arrival.path if file.content is None else file.content for file in files]
        for file, source, prediction in zip(files, sources, live.model.judge(sources), strict=True):
            arrival, now = file.arrival, time.monotonic()
            if prediction.error is not None:
                if not os.path.lexists(self.arrivals.root / arrival.path):
                    continue
                if now - arrival.since < self.patience:
                    self.arrivals.again(arrival)
                    continue
            result = Result.of(
                prediction,
                id=new_id(),
                time=time.time(),
                path=arrival.path,
                size=arrival.size,
                modified=arrival.modified,
                file_digest=file.digest,
                model=live.name,
                version=live.version,
                latency=now - arrival.since,
            )
            results.append(self.record.drawn(live.model, result, source, prediction.map))
            del prediction  # maps of large photographs take much memory
        return results

    def _move(self, path: str, kind: str) -> None:
        """Moves a judged file; after a failure, it is tried again at the next scan of the folder."""
        with hold(), suppress(sqlite3.OperationalError):  # a full disk; the index then keeps the moved file
            try:
                if self.moves.move(path, kind):
                    self.record.journal.forget(path)
            except OSError as error:
                reason = f"{self.moves.folders[kind]}: files cannot be moved there ({reason_of(error)})"
                if reason not in self._told:
                    self.say(f"{reason}; they stay where they are, and it is tried again")
                self._told.add(reason)


@contextmanager
def watching(
    model: str,
    folder: str | Path,
    *,
    outs: Sequence[str] = (),
    maps: Which = "anomalous",
    move: Mapping[Kind, Path] | None = None,
    poll: float | None = None,
    patience: float = PATIENCE,
    rates: Mapping[str, float | None] | None = None,
    engine: str = "auto",
    device: str = "auto",
    say: Callable[[str], None] = print,
) -> Iterator[Watch]:
    """Yields the watch of a folder, and closes everything at the end.

    Args:
        model: the path of a saved model.
        folder: what is watched.
        outs: a folder for results, the address of a database, or both; without these and without `move`, no result is
            kept.
        maps: the images whose heat maps are written, if there is a folder.
        move: folders to which files are moved, by verdict.
        poll: seconds between scans of the folder; by default the system reports each file, and folders on network
            drives are scanned every second.
        patience: seconds after its last change during which an unreadable image is tried again.
        rates: as `Model.at` takes them.
        engine, device: as `Model.load` takes them.
        say: called with each line that a person should read.

    Raises:
        SourceError: the folder cannot be watched.
        SettingError: an option is out of range, or the watched folder is inside one that is written to.
        ModelError: the model cannot be loaded.
        StorageError: results cannot be written.
    """
    root, places, moves = Path(folder), Places.of(outs), Moves(Path(folder), move or {})
    for name, value in (("poll", poll), ("patience", patience)):
        if value is not None and not 0.01 <= value <= 86400:
            raise SettingError(f"{name} {value:g} is out of range; give seconds, from 0.01 to 86400")
    with ExitStack() as stack:
        record_folder = _record_folder(places, moves, stack)
        own = {record_folder, *moves.folders.values()}
        _check_apart(root, own)
        if not os.path.isdir(root):  # never raises, whatever the name
            raise SourceError(f"{root}: is not a folder that can be watched; check the path")
        live = LiveModel(model, RunsOn(engine, device), rates or {}, say)
        _make(moves.folders.values())
        record = Record(record_folder, os.path.realpath(root), places.log, maps if places.folder else "none", say)
        stack.callback(record.close)
        if poll is None and is_on_network(root):
            poll = NETWORK_POLL
            say(f"{root}: is on a network drive, so it is scanned every {poll:g} s")
        arrivals = Arrivals(root, own, poll, partial(_is_done, record.journal, moves), say)
        stack.callback(arrivals.close)
        yield Watch(live, arrivals, record, moves, say, patience)


def _record_folder(places: Places, moves: Moves, stack: ExitStack) -> Path:
    """Returns the folder of the journal; a temporary one if nothing is kept."""
    if places.folder is not None:
        return places.folder
    if places.log is not None or moves.folders:
        return Path(STATE)
    return stack.enter_context(Scratch()).path


def _check_apart(root: Path, own: Collection[Path]) -> None:
    """Raises `SettingError` if the watched folder is inside one that is written to."""
    real = Path(os.path.realpath(root))
    for folder in own:
        if real.is_relative_to(os.path.realpath(folder)):
            raise SettingError(f"{folder}: holds the watched folder {root}; give a folder that does not")


def _make(folders: Collection[Path]) -> None:
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"{folder}: cannot be made ({reason_of(error)}); give another folder") from None


def _is_done(journal: Journal, moves: Moves, path: str, size: int, modified: int) -> bool:
    """Returns whether a file is finished: it was judged, and need not be moved now."""
    done = journal.find(path)
    return done is not None and (done.size, done.modified) == (size, modified) and not moves.is_due(path, done.kind)
