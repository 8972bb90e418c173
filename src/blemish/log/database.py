"""The tables of the log in SQLite or PostgreSQL: each row is written once, in a transaction; rows are read in pages.

Feedback has its own table, since it may arrive before the row of the image, which may wait on the disk.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sql
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.exc import ArgumentError, DataError, IntegrityError, SQLAlchemyError

from blemish.errors import LogError, SettingError, require
from blemish.log.finding import Bucket, Filter, Found, check_limit, cursor_of, read_cursor
from blemish.log.verdict import COLUMNS, LONGEST, Verdict, kept_text, verdict_of

SCHEMA = 1
"""The version of the tables; a database of another version is refused."""

BUSY = 2.0
"""Seconds to wait for a file that another program has locked."""

ANSWER = 10.0
"""Seconds within which PostgreSQL must answer."""

PAGE = 1_000
"""Verdicts that are read together when all are read."""

_LOCK = 0x626C656D  # an advisory lock of PostgreSQL, held while the tables are made

_meta = sql.MetaData()
_schema = sql.Table("blemish_schema", _meta, sql.Column("version", sql.Integer, nullable=False))
_number = sql.Double
verdicts = sql.Table(
    "blemish_verdicts",
    _meta,
    sql.Column("id", sql.String(32), primary_key=True),
    sql.Column("time", _number, nullable=False),
    sql.Column("model", sql.String(LONGEST["model"]), nullable=False),
    sql.Column("version", sql.String(LONGEST["version"]), nullable=False),
    sql.Column("role", sql.String(10), nullable=False),
    sql.Column("request", sql.String(32), nullable=False),
    sql.Column("name", sql.String(LONGEST["name"])),
    sql.Column("digest", sql.String(LONGEST["digest"]), nullable=False),
    sql.Column("score", _number),
    sql.Column("p_value", _number),
    sql.Column("is_anomaly", sql.Boolean),
    sql.Column("threshold", _number),
    sql.Column("false_alarm_rate", _number),
    sql.Column("boxes", sql.JSON, nullable=False),
    sql.Column("latency", _number),
    sql.Column("error", sql.String(LONGEST["error"])),
    sql.Index("blemish_verdicts_by_time", "time", "id"),
    sql.Index("blemish_verdicts_by_model", "model", "time", "id"),
)
feedback = sql.Table(
    "blemish_feedback",
    _meta,
    sql.Column("id", sql.String(32), primary_key=True),
    sql.Column("said", sql.String(10), nullable=False),
    sql.Column("said_at", _number, nullable=False),
)
assert tuple(column.name for column in verdicts.columns) == COLUMNS  # noqa: S101

_REFUSED = (DataError, IntegrityError, ValueError, TypeError, OverflowError)
"""Errors of a single row that the database refuses, while it accepts others."""


class ForeignError(SettingError):
    """A database that is not a log of this version."""


class Database:
    """The tables at an address. Every method raises `LogError` in one line if the database does not answer.

    Args:
        url: `sqlite:///PATH` or `postgresql://…`.
        is_kept: whether the tables are made if they are absent; otherwise they must exist.

    Raises:
        SettingError: the URL is not that of such a database.
        MissingExtraError: PostgreSQL's driver is not installed.
    """

    def __init__(self, url: str, *, is_kept: bool = True) -> None:
        self._file: Path | None = None
        self._seen: tuple[int, int] | None = None
        self._is_kept = is_kept
        if url.startswith("sqlite:///") and url != "sqlite:///":
            self._file = Path(url.removeprefix("sqlite:///")).absolute()
            if "\0" in url:
                raise SettingError(f"{url!r}: no file can have this name; give another path")
            address, options = URL.create("sqlite", database=str(self._file)), {"timeout": BUSY}
        else:
            address, options = _postgresql(url), {}
        self._writing = sql.create_engine(address, connect_args=options, pool_size=1, max_overflow=0)
        self._reading = sql.create_engine(address, connect_args=options, pool_size=4, max_overflow=4, pool_timeout=BUSY)
        if self._file is not None:
            sql.event.listen(self._writing, "connect", _set_up_to_write)
            sql.event.listen(self._writing, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
            sql.event.listen(self._reading, "connect", _set_up_to_read)

    def connect(self) -> None:
        """Checks that the tables are there and have this version. Raises `ForeignError` if not."""
        if not self._is_kept and self._file is not None and not self._file.is_file():
            raise ForeignError("there is no such file; give the log of `blemish serve` or `blemish watch`")
        try:
            self._look()
            with (self._writing if self._is_kept else self._reading).begin() as connection:
                self._check(connection)
        except ForeignError:
            self.close()
            raise
        except SQLAlchemyError as error:
            self.close()
            raise self._fault(error) from None
        except OSError as error:
            raise LogError(f"the log's database cannot be opened ({error.strerror})") from None

    def write(self, rows: Sequence[Mapping[str, Any]], said: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
        """Writes rows of verdicts and feedback in one transaction; existing verdicts are not changed.

        Returns how many rows were new, and how many the database refused.
        """
        try:
            self._look()
            try:
                with self._writing.begin() as connection:
                    return self._insert(connection, rows, said), 0
            except _REFUSED:
                return self._write_one_by_one(rows, said)
        except SQLAlchemyError as error:
            raise self._fault(error) from None
        except OSError as error:
            raise LogError(f"the log's database cannot be opened ({error.strerror})") from None

    def find(self, wanted: Filter, limit: int, after: str | None = None) -> Found:
        """Returns verdicts, newest first. Raises `SettingError` if the limit or the cursor is out of range."""
        check_limit(limit)
        query = _selected(wanted).order_by(verdicts.c.time.desc(), verdicts.c.id.desc()).limit(limit + 1)
        if after is not None:
            query = query.where(sql.tuple_(verdicts.c.time, verdicts.c.id) < sql.tuple_(*read_cursor(after)))
        found = self._read(query)
        more = len(found) > limit
        return Found(tuple(found[:limit]), cursor_of(found[limit - 1]) if more else None)

    def get(self, id: str) -> Verdict | None:
        """Returns one row, or `None`."""
        return next(iter(self._read(_selected(Filter()).where(verdicts.c.id == id[:40].replace("\0", "")))), None)

    def every(self, wanted: Filter) -> Iterator[Verdict]:
        """Yields all verdicts, newest first, in memory that does not grow with them."""
        after: str | None = None
        while True:
            found = self.find(wanted, PAGE, after)
            yield from found.verdicts
            if found.next is None:
                return
            after = found.next

    def buckets(self, wanted: Filter, seconds: float) -> list[Bucket]:
        """Returns the scores in spans of time from `wanted.since` on; spans without an image are left out.

        Raises:
            SettingError: `wanted.since` is not given.
        """
        if wanted.since is None or not seconds > 0:
            raise SettingError("spans of time need a beginning and a length; give since, and seconds above 0")
        number = sql.cast(sql.func.floor((verdicts.c.time - wanted.since) / seconds), sql.Integer).label("number")
        scored = _where(sql.select(number, verdicts.c.score, verdicts.c.is_anomaly), wanted)
        one = scored.where(verdicts.c.score.is_not(None)).subquery()
        place = sql.func.row_number().over(partition_by=one.c.number, order_by=one.c.score).label("place")
        count = sql.func.count().over(partition_by=one.c.number).label("among")
        ranked = sql.select(one, place, count).subquery()
        is_middle = sql.or_(2 * ranked.c.place == ranked.c.among, 2 * ranked.c.place == ranked.c.among + 1)
        is_middle = sql.or_(is_middle, 2 * ranked.c.place == ranked.c.among + 2)
        query = (
            sql.select(
                ranked.c.number,
                sql.func.count(),
                sql.func.count(sql.case((ranked.c.is_anomaly, 1))),
                sql.func.min(ranked.c.score),
                sql.func.avg(sql.case((is_middle, ranked.c.score))),
                sql.func.max(ranked.c.score),
            )
            .group_by(ranked.c.number)
            .order_by(ranked.c.number)
        )
        try:
            with self._reading.connect() as connection:
                return [Bucket(wanted.since + row[0] * seconds, *row[1:]) for row in connection.execute(query)]
        except SQLAlchemyError as error:
            raise self._fault(error) from None

    def unread(self, wanted: Filter) -> int:
        """Returns how many images got no verdict. Raises `LogError` if the database does not answer."""
        query = _where(sql.select(sql.func.count()).select_from(verdicts), wanted)
        try:
            with self._reading.connect() as connection:
                return int(connection.execute(query.where(verdicts.c.error.is_not(None))).scalar_one())
        except SQLAlchemyError as error:
            raise self._fault(error) from None

    def close(self) -> None:
        """Closes all unused connections."""
        self._writing.dispose()
        self._reading.dispose()

    def _read(self, query: sql.Select[Any]) -> list[Verdict]:
        try:
            with self._reading.connect() as connection:
                return [verdict_of(dict(row)) for row in connection.execute(query).mappings()]
        except SQLAlchemyError as error:
            raise self._fault(error) from None
        except (KeyError, ValueError, TypeError, AttributeError, OverflowError):
            raise LogError("the log holds a row that blemish did not write; restore it from a copy") from None

    def _write_one_by_one(
        self, rows: Sequence[Mapping[str, Any]], said: Sequence[Mapping[str, Any]]
    ) -> tuple[int, int]:
        written = refused = 0
        alone: list[tuple[Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]]]] = [([row], []) for row in rows]
        for one in [*alone, *(((), [row]) for row in said)]:
            try:
                with self._writing.begin() as connection:
                    written += self._insert(connection, *one)
            except _REFUSED:
                refused += 1
        return written, refused

    def _insert(
        self, connection: Connection, rows: Sequence[Mapping[str, Any]], said: Sequence[Mapping[str, Any]]
    ) -> int:
        insert = sqlite.insert if self._file is not None else postgresql.insert
        connection = connection.execution_options(preserve_rowcount=True)
        written = 0
        if rows:
            written += connection.execute(insert(verdicts).on_conflict_do_nothing(), list(rows)).rowcount
        if said:
            new = insert(feedback)
            is_newer = sql.or_(new.excluded.said_at > feedback.c.said_at, feedback.c.said_at > time.time())
            newest = new.on_conflict_do_update(
                index_elements=["id"], set_={"said": new.excluded.said, "said_at": new.excluded.said_at}, where=is_newer
            )
            for row in said:
                written += connection.execute(newest, row).rowcount
        return written

    def _look(self) -> None:
        """Closes the connections to a file that was removed or replaced."""
        if self._file is None:
            return
        if self._is_kept:
            self._file.parent.mkdir(parents=True, exist_ok=True)
        try:
            status = self._file.stat()
        except FileNotFoundError:
            status = None
        seen = None if status is None else (status.st_dev, status.st_ino)
        if seen is None or seen != self._seen:
            self.close()
            self._seen = seen

    def _check(self, connection: Connection) -> None:
        """Makes the tables if there are none. Raises `ForeignError` if there are others."""
        if self._file is None:
            if self._is_kept:
                connection.execute(sql.select(sql.func.pg_advisory_xact_lock(_LOCK)))
            encoding = connection.execute(sql.text("SHOW server_encoding")).scalar_one()
            if encoding not in {"UTF8", "SQL_ASCII"}:
                raise ForeignError(f"the log's database has encoding {encoding}, not UTF8; create another one")
        names = set(sql.inspect(connection).get_table_names())
        if _schema.name in names:
            versions = connection.execute(sql.select(_schema.c.version)).scalars().all()
            if versions != [SCHEMA] or not set(_meta.tables) <= names:
                found = ", ".join(map(str, versions[:3])) or "none"
                raise ForeignError(f"the log's tables have version {found}, not {SCHEMA}; give another database")
            return
        others = names if self._file is not None else names & set(_meta.tables)
        if others:
            raise ForeignError(
                f"the database holds the table {min(others)}, which is not part of a log; give another database"
            )
        if not self._is_kept:
            raise ForeignError("the database holds no log; give that of `blemish serve` or `blemish watch`")
        _meta.create_all(connection)
        connection.execute(sql.insert(_schema).values(version=SCHEMA))

    def _fault(self, error: SQLAlchemyError) -> LogError:
        reason = str(getattr(error, "orig", None) or error).strip().partition("\n")[0].rpartition("failed: ")[2]
        if "file is not a database" in reason or "file is encrypted" in reason:
            raise ForeignError("the log's file is not a database of SQLite; give another path") from None
        return LogError(f"the log's database does not answer ({reason[:200] or type(error).__name__})")


def _postgresql(url: str) -> URL:
    """Returns the address with its driver and with limits on waiting times."""
    try:
        address = make_url(url)
    except (ArgumentError, ValueError):
        address = None
    if address is None or address.drivername != "postgresql":
        kind = url.partition(":")[0][:20]
        raise SettingError(f"the log's address begins with {kind!r}; give sqlite:///PATH or postgresql://HOST/DATABASE")
    require("psycopg", of="a log in PostgreSQL", extra="postgresql")
    limits = {
        "connect_timeout": "5",
        "options": f"-c statement_timeout={1000 * ANSWER:.0f} -c lock_timeout={1000 * BUSY:.0f}",
        "keepalives_idle": "10",
        "keepalives_interval": "5",
        "keepalives_count": "3",
        "tcp_user_timeout": "15000",
        "client_encoding": "utf8",
        "application_name": "blemish",
    }
    return address.set(drivername="postgresql+psycopg", query={**limits, **address.query})


def _set_up_to_write(connection: Any, _: object) -> None:
    """Sets up a new connection to SQLite: readers can read while one writes, and written rows outlast a crash."""
    connection.isolation_level = None  # transactions are begun here, not by the driver
    for setting in ("journal_mode = WAL", "synchronous = FULL"):
        connection.execute(f"PRAGMA {setting}").close()


def _set_up_to_read(connection: Any, _: object) -> None:
    connection.execute("PRAGMA query_only = ON").close()


def _selected(wanted: Filter) -> sql.Select[Any]:
    joined = verdicts.outerjoin(feedback, verdicts.c.id == feedback.c.id)
    return _where(sql.select(verdicts, feedback.c.said.label("feedback")).select_from(joined), wanted)


def _where(query: sql.Select[Any], wanted: Filter) -> sql.Select[Any]:
    """Returns the query with the conditions of a filter."""
    table = verdicts.c
    if wanted.model is not None:
        query = query.where(table.model == kept_text(wanted.model, "model"))
    if wanted.role is not None:
        query = query.where(table.role == wanted.role)
    if wanted.since is not None:
        query = query.where(table.time >= wanted.since)
    if wanted.until is not None:
        query = query.where(table.time < wanted.until)
    if wanted.is_anomaly is not None:
        query = query.where(table.is_anomaly == wanted.is_anomaly)
    if wanted.feedback is not None:
        query = query.where(table.id.in_(sql.select(feedback.c.id).where(feedback.c.said == wanted.feedback)))
    return query
