"""`blemish log` as a user meets it."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from blemish.log import Verdict, open_log
from command import inside
from databases import PostgresDatabase, verdict

ROWS = [verdict(n, time=1_700_000_000.0 + 3_600 * n, model=("cells", "tiles")[n == 2]) for n in range(6)]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """That of a log with six verdicts; not to be changed."""
    folder = tmp_path_factory.mktemp("log")
    fill(f"sqlite:///{folder / 'log.sqlite'}", folder)
    return f"sqlite:///{folder / 'log.sqlite'}"


def fill(url: str, folder: Path) -> None:
    log = open_log(url, folder / "spool")
    for row in ROWS:
        log.put(row)
    assert log.flush(60)
    log.close()


def listed(text: str) -> list[Verdict]:
    by_id = {row.id: row for row in ROWS}
    return [by_id[json.loads(line)["id"]] for line in text.splitlines()]


def test_the_log_is_printed_newest_first_as_far_as_it_is_wanted(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    def printed(*words: object) -> list[int]:
        done = inside(capsys, "log", url, *words)
        assert done.returncode == 0, done.stderr
        return [ROWS.index(row) for row in listed(done.stdout)]

    assert printed() == [5, 4, 3, 2, 1, 0]
    assert printed("--model", "tiles") == [2]
    assert printed("--anomalous") == [3, 0]
    assert printed("--since", "2023-11-15", "--until", "2023-11-15T02:00Z") == [3, 2]
    assert printed("--since", "2023-11-15T03:00:00+01:00") == [5, 4]


def test_the_log_is_exported_to_a_new_file(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow; pip install 'blemish[parquet]'")
    for kind in ("jsonl", "csv", "parquet"):
        done = inside(capsys, "log", url, "--format", kind, "-o", tmp_path / f"log.{kind}")
        assert done.returncode == 0, done.stderr
        assert done.stdout == ""
    assert listed((tmp_path / "log.jsonl").read_text()) == ROWS[::-1]
    with (tmp_path / "log.csv").open(newline="") as file:
        assert [row["id"] for row in csv.DictReader(file)] == [row.id for row in ROWS[::-1]]
    assert parquet.read_table(tmp_path / "log.parquet").column("name").to_pylist()[0] == "005.png"
    again = inside(capsys, "log", url, "-o", tmp_path / "log.csv")
    assert again.returncode == 1
    assert "exists already" in again.stderr
    forced = inside(capsys, "log", url, "-o", tmp_path / "log.csv", "--force")
    assert forced.returncode == 0, forced.stderr
    assert listed((tmp_path / "log.csv").read_text()) == ROWS[::-1]
    path = url.removeprefix("sqlite:///")
    before = Path(path).read_bytes()
    itself = inside(capsys, "log", url, "-o", path, "--force")
    assert f"{path}: is the log itself; give another file to write to" in itself.stderr
    assert Path(path).read_bytes() == before


def test_the_path_of_a_log_is_taken_for_its_address(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    done = inside(capsys, "log", url.removeprefix("sqlite:///"))
    assert listed(done.stdout) == ROWS[::-1]


def test_where_no_verdict_matches_that_is_told_beside_the_output(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = inside(capsys, "log", url, "--model", "nope")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "no verdicts match\n")
    assert inside(capsys, "log", url).stderr == ""
    csv = inside(capsys, "log", url, "--model", "nope", "--format", "csv")
    assert csv.stdout.count("\n") == 1  # the line of names
    assert csv.stderr == "no verdicts match\n"


def test_a_log_in_postgresql_is_printed_too(postgres: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = PostgresDatabase(postgres)
    empty = inside(capsys, "log", place.url)
    assert "the database holds no log" in empty.stderr
    assert place.run("SELECT COUNT(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]
    fill(place.url, tmp_path)
    assert listed(inside(capsys, "log", place.url).stdout) == ROWS[::-1]


def test_what_cannot_be_done_is_told_in_one_line(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, told in (
        ((url, "--since", "yesterday"), "'yesterday' is not a time; give one like 2026-01-31"),
        ((url, "--format", "parquet"), "Parquet is not for a terminal; give -o FILE"),
        ((f"sqlite:///{tmp_path / 'absent'}",), "there is no such file"),
        ((str(tmp_path / "absent.sqlite"),), "absent.sqlite: no such file; give the log's file, sqlite:///PATH"),
        (("mysql://me:secret@host/db",), "give sqlite:///PATH or postgresql://HOST/DATABASE"),
        (("postgresql://me:secret@127.0.0.1:1/db",), "the log's database does not answer (Connection refused)"),
    ):
        done = inside(capsys, "log", *words)
        assert done.returncode in {1, 2}
        assert told in done.stderr
        assert done.stderr.count("\n") == 1
        assert "secret" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_without_sqlalchemy_the_command_says_what_to_install(
    url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    assert "the log needs sqlalchemy; pip install 'blemish[serve]'" in inside(capsys, "log", url).stderr


def test_reading_the_log_needs_neither_torch_nor_openvino(url: str) -> None:
    program = f"import sys, blemish.cli\nsys.argv = ['blemish', 'log', {url!r}]\ntry:\n    blemish.cli.main()\n"
    program += "finally:\n    assert not {'torch', 'openvino', 'pyarrow', 'scipy', 'psycopg'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert listed(done.stdout) == ROWS[::-1]
