"""The record of what was judged; a crash loses nothing and repeats nothing.

`results.jsonl` is authoritative: a batch is done once its whole lines are in this file and flushed to the disk. The
other files follow it, and after a crash they may be behind, but never ahead. `index.sqlite` holds which files are done
and how many bytes of lines were read; `results.csv` holds the results as a table. `catch_up` adds what is missing,
after each batch and after a start. A last line that is not whole does not count and is cut off.
"""

from __future__ import annotations

import contextlib
import csv
import io
import os
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from blemish.errors import SettingError, StorageError
from blemish.storage.cards import reason_of
from blemish.watching.result import COLUMNS, Result

RESULTS, TABLE, INDEX = "results.jsonl", "results.csv", "index.sqlite"
LONGEST_LINE = 4 << 20
"""Bytes of a line, at most."""
AT_ONCE = 1000
"""Lines that are read together."""
_CHANGE = "give another folder with --out"


@dataclass(frozen=True)
class Done:
    """A judged file: its size, time of change and digest at that time, and its verdict."""

    size: int
    modified: int
    digest: str
    kind: str


class Journal:
    """The results in a folder, which only one process may use at a time.

    Args:
        folder: made if it is absent.
        source: what is watched; a folder with results of another source is refused.

    Raises:
        SettingError: the folder is in use by another process, or holds results of another source.
        StorageError: it holds something else, or cannot be written.
    """

    def __init__(self, folder: Path, source: str) -> None:
        self.folder, self.source = folder, source
        self._files: list[int] = []
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._index = self._opened()
            self._results, self._table = (self._file(name) for name in (RESULTS, TABLE))
            self._end = self._repaired()
            self.catch_up()
        except BaseException as error:
            self.close()
            if isinstance(error, (OSError, sqlite3.Error)):
                raise StorageError(f"{folder}: cannot be written ({reason_of(error)}); {_CHANGE}") from error
            raise

    def find(self, path: str) -> Done | None:
        """Returns the record of a judged file, by its path below the watched folder; `None` if there is none."""
        row = self._index.execute(
            "SELECT size, modified, digest, kind FROM done WHERE path = ?", (os.fsencode(path),)
        ).fetchone()
        return None if row is None else Done(*row)

    def append(self, results: Iterable[Result]) -> None:
        """Writes lines and flushes them to the disk: all of them, or none if it raises `OSError`."""
        lines = b"".join(result.line() for result in results)
        try:
            _write(self._results, lines, self._end)
            os.fsync(self._results)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._results, self._end)
            raise
        self._end += len(lines)

    def catch_up(self) -> None:
        """Adds new lines to the table and the index; after a failure, call it again.

        Raises:
            OSError, sqlite3.Error: the disk is full or cannot be written.
            StorageError: a line is not what watch wrote.
        """
        lines, table = self._place("lines"), self._place("table")
        if os.fstat(self._table).st_size < table:  # it was changed from outside, so it is written again
            lines = table = 0
        os.ftruncate(self._table, table)
        for results, end in self.after(lines):
            text = io.StringIO()
            writer = csv.writer(text, lineterminator="\n")
            if table == 0:
                writer.writerow(COLUMNS)
            writer.writerows(result.row() for result in results)
            rows = text.getvalue().encode("utf-8", "backslashreplace")
            _write(self._table, rows, table)
            table += len(rows)
            with self._index:
                self._index.executemany(
                    "REPLACE INTO done VALUES (?, ?, ?, ?, ?)",
                    [
                        (os.fsencode(one.path), one.size, one.modified, one.file_digest, one.kind)
                        for one in results
                        if one.size is not None
                    ],
                )
                self._set(lines=end, table=table)

    def renew(self, path: str, size: int, modified: int) -> None:
        """Notes another time of change of a file whose content is the same."""
        with self._index:
            self._index.execute(
                "UPDATE done SET size = ?, modified = ? WHERE path = ?", (size, modified, os.fsencode(path))
            )

    def forget(self, path: str) -> None:
        """Forgets a file that was moved away, so that another of its name is judged."""
        with self._index:
            self._index.execute("DELETE FROM done WHERE path = ?", (os.fsencode(path),))

    def after(self, place: int) -> Iterator[tuple[list[Result], int]]:
        """Yields results from a byte of the file on, some at a time, each time with the byte after them."""
        with (self.folder / RESULTS).open("rb") as file:
            file.seek(place)
            while place < self._end:
                results: list[Result] = []
                while len(results) < AT_ONCE and place < self._end:
                    line = file.readline(LONGEST_LINE)
                    results.append(Result.from_line(line, f"{self.folder / RESULTS}: byte {place}"))
                    place += len(line)
                yield results, place

    @property
    def logged_to(self) -> int:
        """The byte up to which results are stored by the log."""
        return self._place("logged")

    def logged(self, place: int) -> None:
        """Notes that all results before this byte are stored by the log."""
        with self._index:
            self._set(logged=place)

    def close(self) -> None:
        """Closes the files."""
        for descriptor in self._files:
            os.close(descriptor)
        self._files = []
        if hasattr(self, "_index"):
            self._index.close()

    def _opened(self) -> sqlite3.Connection:
        """Returns the index, locked for this process; a damaged one is made again from the lines."""
        path = self.folder / INDEX
        try:
            return self._connected(path)
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise SettingError(f"{self.folder}: is in use by another blemish watch; {_CHANGE}") from None
            raise
        except sqlite3.DatabaseError:
            for file in self.folder.glob(f"{INDEX}*"):
                file.unlink()
            return self._connected(path)

    def _connected(self, path: Path) -> sqlite3.Connection:
        is_new = not path.exists()
        if is_new and not (self.folder / RESULTS).exists() and (self.folder / TABLE).exists():
            raise StorageError(f"{self.folder / TABLE}: was not written by watch, so it is not replaced; {_CHANGE}")
        index = sqlite3.connect(path, timeout=0, check_same_thread=False)
        try:
            # Exclusive, since SQLite would otherwise need shared memory, which network drives lack.
            for setting in ("locking_mode = EXCLUSIVE", "journal_mode = WAL", "synchronous = NORMAL"):
                index.execute(f"PRAGMA {setting}")
            with index:
                index.execute("BEGIN EXCLUSIVE")
                index.execute(
                    "CREATE TABLE IF NOT EXISTS done (path BLOB PRIMARY KEY, size INTEGER, modified INTEGER,"
                    " digest TEXT, kind TEXT) WITHOUT ROWID"
                )
                index.execute("CREATE TABLE IF NOT EXISTS places (name TEXT PRIMARY KEY, value)")
                index.execute("INSERT OR IGNORE INTO places VALUES ('source', ?)", (os.fsencode(self.source),))
            ((source,),) = index.execute("SELECT value FROM places WHERE name = 'source'")
            if source != os.fsencode(self.source):
                named = os.fsdecode(source)
                raise SettingError(f"{self.folder}: holds results of {named}, not of {self.source}; {_CHANGE}")
        except BaseException:
            index.close()
            raise
        return index

    def _file(self, name: str) -> int:
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
        self._files.append(os.open(self.folder / name, flags | getattr(os, "O_BINARY", 0), 0o644))
        return self._files[-1]

    def _repaired(self) -> int:
        """Cuts off a last line that is not whole. Returns where the lines end."""
        end = os.fstat(self._results).st_size
        whole = end
        while whole:
            start = max(0, whole - 65536)
            at = _read(self._results, whole - start, start).rfind(b"\n")
            if at >= 0:
                whole = start + at + 1
                break
            whole = start
        if whole < end:
            os.ftruncate(self._results, whole)
            os.fsync(self._results)
        if self._place("lines") > whole:  # somebody removed lines
            with self._index:
                self._index.execute("DELETE FROM done")
                self._set(lines=0, table=0, logged=0)
        return whole

    def _place(self, name: str) -> int:
        row = self._index.execute("SELECT value FROM places WHERE name = ?", (name,)).fetchone()
        return 0 if row is None else int(row[0])

    def _set(self, **places: int) -> None:
        self._index.executemany("REPLACE INTO places VALUES (?, ?)", list(places.items()))


def _write(descriptor: int, content: bytes, place: int) -> None:
    """Writes all of the content at a place."""
    os.lseek(descriptor, place, os.SEEK_SET)
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def _read(descriptor: int, count: int, place: int) -> bytes:
    """Returns so many bytes from a place."""
    os.lseek(descriptor, place, os.SEEK_SET)
    return os.read(descriptor, count)
