"""A program that runs watches in forked processes, each killed at a line of blemish's drawn at random, and checks that
nothing was lost and nothing repeated. It imports no engine, and has no threads of its own.
"""

from __future__ import annotations

import csv
import json
import os
import random
import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from types import FrameType
from typing import Any

import fakes
from fakes import close, fake_watch

import blemish.watching.watch as watch_module

KILLED = 9
ROOM = os.sep + os.path.join("blemish", "watching") + os.sep


def run(place: Path, elsewhere: Path, with_log: bool, kill_at: int | None) -> int:
    """A watch until no file is left, in a process of its own. Returns its status."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    lines = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal lines
        if ROOM not in frame.f_code.co_filename:
            return None
        if event == "line":
            lines += 1
            if lines == kill_at:
                os._exit(KILLED)
        return trace

    try:
        watch_module.BATCH = 3
        sys.settrace(trace)
        watch = fake_watch(
            place / "line",
            place / "out",
            log=f"sqlite:///{place}/log.sqlite" if with_log else None,
            move={"good": place / "good", "anomalous": elsewhere},
            poll=0.02,
            patience=0.02,
        )
        for _ in watch.run(once=True):
            pass
        close(watch)
        sys.settrace(None)
        if kill_at is None:
            (place / "lines").write_text(str(lines))
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)


def check(place: Path, elsewhere: Path, files: dict[str, str], with_log: bool) -> None:
    """Raises if an image has no result or two, or is not where it should be."""
    lines = [json.loads(line) for line in (place / "out" / "results.jsonl").read_text().splitlines()]
    assert sorted(line["path"] for line in lines) == sorted(files), "a line is lost or repeated"
    assert len({line["id"] for line in lines}) == len(files)
    with (place / "out" / "results.csv").open(newline="") as table:
        assert [row["id"] for row in csv.DictReader(table)] == [line["id"] for line in lines], "the table differs"
    for folder, kind in ((place / "good", "good"), (elsewhere, "odd"), (place / "line", "bad")):
        found = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}
        assert found == {name: content for name, content in files.items() if content.startswith(kind)}, f"{kind} moved"
    if with_log:
        with closing(sqlite3.connect(place / "log.sqlite")) as log:
            ids = [row[0] for row in log.execute("SELECT id FROM blemish_verdicts")]
        assert sorted(ids) == sorted(line["id"] for line in lines), "the log differs"


def main(seed: int, kills: int) -> None:
    draw = random.Random(seed)  # noqa: S311  # no secret
    quick = Path("/dev/shm")  # noqa: S108  # in memory, and another file system than that of temporary files
    done = lines = 0
    while done < kills:
        with_log = draw.random() < 0.3
        with (
            tempfile.TemporaryDirectory(dir=quick if quick.is_dir() else None) as folder,
            tempfile.TemporaryDirectory() as elsewhere,
        ):
            place, moved = Path(folder), Path(elsewhere)
            files = {}
            for number in range(10):
                name = f"{'lot/' if number % 3 == 0 else ''}{number}.png"
                files[name] = f"{draw.choice(['good', 'good', 'odd', 'bad'])} {number}"
                (place / "line" / name).parent.mkdir(parents=True, exist_ok=True)
                (place / "line" / name).write_text(files[name])
            (place / "good").mkdir()
            while lines and done < kills:
                status = run(place, moved, with_log, draw.randint(1, lines))
                if status == 0:
                    break
                assert status == KILLED, "it ended by an error"
                done += 1
                if draw.random() < 0.3:  # what a loss of power may leave behind the last whole line
                    with (place / "out" / "results.jsonl").open("ab") as file:
                        file.write(draw.choice([b'{"path": "torn', b"\0\0\0\0", b"{"]))
            assert run(place, moved, with_log, None) == 0
            lines = lines or int((place / "lines").read_text())
            check(place, moved, files, with_log)
            assert run(place, moved, with_log, None) == 0
            check(place, moved, files, with_log)  # and a start with nothing to do changes nothing
    print(f"killed {done} times among {lines} lines")


if __name__ == "__main__":
    assert fakes
    main(int(sys.argv[1]), int(sys.argv[2]))
