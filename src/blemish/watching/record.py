"""Keeps results: first pictures, then lines on the disk, then the table and the log."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.errors import ImageError, SettingError
from blemish.images import ImageLike, Pixels
from blemish.interrupts import hold
from blemish.log import Log, open_log
from blemish.model import Model
from blemish.model.picture import drawn
from blemish.storage.cards import reason_of
from blemish.watching.journal import Journal
from blemish.watching.result import Result

T = TypeVar("T")
Which = Literal["none", "anomalous", "all"]
OVERLAYS, FRAMES, SPOOL = "overlays", "frames", "spool"
AGAIN = 1.0
"""Seconds until another attempt to write."""

WAITING = 2000
"""Rows that may wait in the log's memory before more are added; from 5,000 on, it would write them to the disk."""

STATE = "blemish-watch"
"""The folder of results, in the current one, if only the address of a log is given."""


@dataclass(frozen=True)
class Places:
    """Where results go.

    Attributes:
        folder: for lines, table and pictures; `None` if none was given.
        log: the address of a database, or `None`.
    """

    folder: Path | None
    log: str | None

    @classmethod
    def of(cls, outs: Sequence[str]) -> Places:
        """Returns the places that were given: at most one folder and one database.

        Raises:
            SettingError: there are more, or an address is not that of a database.
        """
        logs = [out for out in outs if re.match(r"[a-z][a-z0-9+.-]*://", out)]
        folders = [out for out in outs if out not in logs]
        for found, what in ((logs, "databases"), (folders, "folders")):
            if len(found) > 1:
                raise SettingError(f"--out names {len(found)} {what}; give one folder, one database, or one of each")
        for address in logs:
            if not address.startswith(("sqlite:", "postgresql")):
                kind = address.partition(":")[0]
                raise SettingError(f"--out {kind}://… is not a known database; give sqlite:///PATH or postgresql://…")
        return cls(Path(folders[0]) if folders else None, logs[0] if logs else None)


class Record:
    """Keeps results; those of a batch are kept together or not at all.

    Args:
        folder: the folder of the journal; pictures go there too.
        source: what is watched, as `Journal` takes it.
        log: the address of a database, or `None`.
        maps: the images whose heat maps are written.
        say: called with a line when the log is lost, and when it is back.

    Raises:
        SettingError, StorageError, MissingExtraError: as `Journal` and `open_log` do.
    """

    def __init__(self, folder: Path, source: str, log: str | None, maps: Which, say: Callable[[str], None]) -> None:
        self.folder, self.maps = folder, maps
        self.journal = Journal(folder, source)
        self._log: Log | None = None
        self._put = self._safe = self.journal.logged_to
        self._say = say
        self._problem: str | None = None
        if log is not None:
            try:
                self._log = open_log(log, folder / SPOOL)
                self._follow()
            except BaseException:
                self.close()
                raise

    def keep(self, results: Sequence[Result]) -> None:
        """Writes the lines of a batch. Raises `OSError` if it cannot; then none was written."""
        with hold():
            self.journal.append(results)

    def catch_up(self) -> None:
        """Adds new lines to the table and the log. Raises `OSError` or `sqlite3.Error` if it cannot; then try again."""
        with hold():
            self.journal.catch_up()
            self._follow()

    def drawn(
        self,
        model: Model,
        result: Result,
        source: ImageLike,
        values: NDArray[np.float32] | None,
    ) -> Result:
        """Returns the result with the name of its heat map, which is written if `maps` says so."""
        if values is None or not wanted(self.maps, result):
            return result
        name = f"{Path(result.path).stem}_{result.digest[:12]}"
        try:
            pixels = drawn(model, source, values)
        except ImageError:  # a file of over a gigabyte that is no longer there
            return result
        return replace(result, map=keep_trying(lambda: self.picture(OVERLAYS, name, pixels), self._say))

    def picture(self, kind: str, name: str, pixels: Pixels) -> str:
        """Writes a PNG, whole or not at all, and replaces one with the same name. Returns its path below the folder.

        Raises:
            OSError: it cannot be written.
        """
        day = datetime.now(timezone.utc).strftime("%Y-%m-%d")
        path = self.folder / kind / day / f"{_plain(name)}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.part")
        try:
            Image.fromarray(pixels).save(draft, "PNG", compress_level=1)
            os.replace(draft, path)
        except OSError:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
            raise
        return path.relative_to(self.folder).as_posix()

    def close(self) -> None:
        """Sends the last results to the log, and closes the files."""
        try:
            if self._log is not None:
                with contextlib.suppress(OSError, sqlite3.Error):
                    self._follow()
                    self._log.flush(5.0)
                    self._settle()
                self._log.close()
        finally:
            self._log = None
            self.journal.close()

    def _follow(self) -> None:
        """Sends new results to the log, as many as it has room for; the others stay in the lines until then."""
        if self._log is None:
            return
        self._settle()
        problem = self._log.counts.problem
        if (problem is None) != (self._problem is None):
            self._say(
                "the log is written again" if problem is None else f"{problem}; results are kept here until it is back"
            )
        self._problem = problem
        if not _has_room(self._log):
            return
        for results, place in self.journal.after(self._put):
            for result in results:
                self._log.put(result.verdict())
            self._put = place
            if not _has_room(self._log):
                return

    def _settle(self) -> None:
        """Notes up to where results are stored by the log: in its database, or on its disk until that is back."""
        if self._log is not None and self._safe < self._put and self._log.counts.waiting == 0 and self._log.flush(0.0):
            self.journal.logged(self._put)
            self._safe = self._put


def _has_room(log: Log) -> bool:
    """Returns whether the log has room for more, so that no row is dropped."""
    counts = log.counts
    return counts.is_connected and counts.waiting <= WAITING


def wanted(which: Which, result: Result) -> bool:
    """Returns whether an image with this result needs a picture."""
    return which == "all" or (which == "anomalous" and bool(result.is_anomaly))


def _plain(name: str) -> str:
    """Returns a name that every file system accepts, and that stays in its folder."""
    return re.sub(r"[^\w.-]", "_", name, flags=re.ASCII).lstrip(".")[:100] or "image"


def keep_trying(step: Callable[[], T], say: Callable[[str], None]) -> T:
    """Returns the result of `step`, which is tried again until it succeeds, if the disk is full or lost.

    `say` is called with a line at the first failure, and with one after it.
    """
    told = False
    while True:
        try:
            done = step()
        except (OSError, sqlite3.Error) as error:
            if not told:
                say(f"results cannot be written ({reason_of(error)}); waiting until they can, and no image is lost")
            told = True
            time.sleep(AGAIN)
            continue
        if told:
            say("results are written again")
        return done
