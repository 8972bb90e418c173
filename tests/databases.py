"""Verdicts, and databases for them that tests lose, lock and wipe: a file of SQLite, or one in a PostgreSQL."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from blemish.log import Verdict, new_id
from blemish.maps import Box


def verdict(number: int = 0, **fields: object) -> Verdict:
    id = new_id()
    made = Verdict(
        id=id,
        time=1_700_000_000 + number / 7,
        model="cells",
        version="1f2e3d4c5b6a",
        role="decides",
        request=id,
        name=f"{number:03d}.png",
        digest="ab" * 32,
        score=1 / (number + 3),
        p_value=0.1,
        is_anomaly=number % 3 == 0,
        threshold=0.25,
        false_alarm_rate=0.05,
        boxes=(Box(1, 2, 30, 40, 500, 0.1 + 0.2),),
        latency=0.0123,
    )
    return replace(made, **fields)  # type: ignore[arg-type]


def until(holds: Callable[[], object]) -> None:
    """Waits, since threads take turns as they like."""
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


class SqliteFile:
    """A file of SQLite, which is lost while a folder is in its place."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "log.sqlite"
        self.url = f"sqlite:///{self.path}"

    def run(self, *statements: str) -> list[tuple[Any, ...]]:
        """Returns the rows of the last statement."""
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            return [connection.execute(statement).fetchall() for statement in statements][-1]

    def lose(self) -> None:
        for file in self.path.parent.glob("log.sqlite*"):
            file.rename(file.with_name(f"away.{file.name}"))
        self.path.mkdir()

    def restore(self) -> None:
        self.path.rmdir()
        for file in self.path.parent.glob("away.*"):
            file.rename(file.with_name(file.name.removeprefix("away.")))

    def wipe(self) -> None:
        for file in self.path.parent.glob("log.sqlite*"):
            file.unlink()

    @contextmanager
    def locked(self) -> Iterator[None]:
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield

    def refuse(self, name: str) -> None:
        """Rows of this name are refused from now on."""
        self.run(
            "CREATE TRIGGER refused BEFORE INSERT ON blemish_verdicts "
            f"WHEN NEW.name = '{name}' BEGIN SELECT RAISE(ABORT, 'refused'); END"
        )


class PostgresDatabase:
    """A database in a server; it is lost while nobody may connect to it."""

    def __init__(self, sockets: Path) -> None:
        self.sockets, self.name = sockets, f"test_{secrets.token_hex(4)}"
        self._admin(f"CREATE DATABASE {self.name}")
        self.url = f"postgresql://postgres@/{self.name}?host={sockets}"

    def connect(self, name: str) -> Any:
        import psycopg

        return psycopg.connect(host=str(self.sockets), user="postgres", dbname=name, autocommit=True)

    def run(self, *statements: str) -> list[tuple[Any, ...]]:
        with self.connect(self.name) as connection:
            found = [connection.execute(statement) for statement in statements][-1]
            return found.fetchall() if found.description else []

    def _admin(self, *statements: str) -> None:
        with self.connect("postgres") as connection:
            for statement in statements:
                connection.execute(statement)

    def _throw_out(self) -> None:
        with self.connect("postgres") as connection:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [self.name])

    def lose(self) -> None:
        self._admin(f"ALTER DATABASE {self.name} ALLOW_CONNECTIONS false")
        self._throw_out()

    def restore(self) -> None:
        self._admin(f"ALTER DATABASE {self.name} ALLOW_CONNECTIONS true")

    def wipe(self) -> None:
        self._admin(f"DROP DATABASE {self.name} WITH (FORCE)", f"CREATE DATABASE {self.name}")

    @contextmanager
    def locked(self) -> Iterator[None]:
        with self.connect(self.name) as connection, connection.transaction():
            connection.execute("LOCK TABLE blemish_verdicts IN ACCESS EXCLUSIVE MODE")
            yield

    def refuse(self, name: str) -> None:
        self.run(f"ALTER TABLE blemish_verdicts ADD CHECK (name <> '{name}')")


@contextmanager
def running_postgres() -> Iterator[Path]:
    """The folder of the sockets of a new PostgreSQL; skips where it is not installed."""
    pytest.importorskip("psycopg", reason="needs psycopg; pip install 'blemish[postgresql]'")
    found = shutil.which("initdb") or next(map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))), None)
    if found is None:
        pytest.skip("no PostgreSQL on this machine; apt-get install postgresql")
    as_somebody: dict[str, Any] = {}
    folder = Path(tempfile.mkdtemp(prefix="blemish-pg-"))
    if os.geteuid() == 0:  # PostgreSQL refuses to be the superuser's
        as_somebody = {"user": "postgres", "group": "postgres", "extra_groups": []}
        shutil.chown(folder, "postgres", "postgres")
    data, programs = folder / "data", Path(found).parent
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder, **as_somebody}
    made = [programs / "initdb", "-D", data, "-U", "postgres", "-E", "UTF8", "--locale=C", "-A", "trust", "--no-sync"]
    subprocess.run(made, check=True, **quiet)
    options = ["-k", folder, "-c", "listen_addresses=", "-c", "fsync=off", "-c", "shared_buffers=8MB"]
    server = subprocess.Popen([programs / "postgres", "-D", data, *options], **quiet)
    try:
        _wait_for(folder, server)
        yield folder
    finally:
        server.send_signal(signal.SIGQUIT)  # at once: its data are thrown away
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(sockets: Path, server: subprocess.Popen[bytes]) -> None:
    import psycopg

    for _ in range(600):
        try:
            psycopg.connect(host=str(sockets), user="postgres", dbname="postgres").close()
            return
        except psycopg.OperationalError:
            assert server.poll() is None, "PostgreSQL did not start"
            time.sleep(0.05)
    raise TimeoutError("PostgreSQL did not start")
