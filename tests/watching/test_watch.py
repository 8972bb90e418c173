"""What a watch does with the images of a folder."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from fakes import close, fake_watch
from PIL import Image

import blemish
from blemish.engines import RunsOn
from blemish.errors import SettingError, SourceError
from blemish.watching import Result, watching
from blemish.watching import journal as journal_module
from blemish.watching import live as live_module
from blemish.watching import moving as moving_module
from blemish.watching import record as record_module
from blemish.watching.live import LiveModel
from blemish.watching.record import Places
from blemish.watching.watch import Watch
from conftest import part, scratched, write_parts

# What watchdog warns of when it asks twice to be told of a folder; an error would end its thread.
pytestmark = pytest.mark.filterwarnings("ignore:Callback with id:RuntimeWarning")

LONG = 30.0
"""Seconds that are waited for at most; a test that passes waits far less."""

Made = Callable[..., Watch]


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Made]:
    """Makes watches of `line` by the fake model, which are closed at the end."""
    (tmp_path / "line").mkdir()
    watches: list[Watch] = []

    def make(**options: object) -> Watch:
        for watch in watches:
            close(watch)
        watches.append(fake_watch(tmp_path / "line", tmp_path / "out", **options))  # type: ignore[arg-type]
        return watches[-1]

    yield make
    for watch in watches:
        close(watch)


def put(folder: Path, *contents: str, age: float = 9.0) -> None:
    """Files that are named for their contents."""
    for number, content in enumerate(contents):
        path = folder / f"{content.replace(' ', '_')}.png"
        path.write_text(content)
        os.utime(path, (time.time() - age + number / 100,) * 2)


def said_of(results: list[Result]) -> list[tuple[str, str]]:
    return [(result.path, result.kind) for result in results]


def kept(folder: Path) -> list[str]:
    return [json.loads(line)["path"] for line in (folder / "results.jsonl").read_text().splitlines()]


def test_each_image_is_judged_once_and_again_only_if_it_has_changed(made: Made, tmp_path: Path) -> None:
    line, said = tmp_path / "line", list[str]()
    put(line, "good 1", "odd 2", "bad 3")
    first = made()
    assert said_of(list(first.run(once=True))) == [
        ("good_1.png", "good"),
        ("odd_2.png", "anomalous"),
        ("bad_3.png", "unreadable"),
    ]
    assert first.counts == {"good": 1, "anomalous": 1, "unreadable": 1}
    assert list(made().run(once=True)) == []
    (line / "good_1.png").write_text("good 1")  # the same image at another time
    (line / "odd_2.png").write_text("good now")
    (line / "bad_3.png").touch()
    assert said_of(list(made(say=said.append).run(once=True))) == [("odd_2.png", "good")]
    assert said == []
    assert kept(tmp_path / "out") == ["good_1.png", "odd_2.png", "bad_3.png", "odd_2.png"]


def test_an_image_that_comes_again_unchanged_is_said_to_be_the_same(made: Made, tmp_path: Path) -> None:
    said: list[str] = []
    put(tmp_path / "line", "good 1")
    watch = made(say=said.append)
    assert len(list(watch.run(once=True))) == 1
    (tmp_path / "line" / "good_1.png").write_text("good 1")
    end = time.monotonic() + LONG
    while not said and time.monotonic() < end:
        assert list(watch.run(once=True)) == []
    assert said == ["good_1.png: is the same image as before, so it is not judged again"]


def test_an_image_that_is_still_written_is_tried_again_and_told_of_only_after_a_while(
    made: Made, tmp_path: Path
) -> None:
    put(tmp_path / "line", "bad 1", "good 2")
    watch = made(patience=LONG)
    results = watch.run()
    assert next(results).path == "good_2.png"  # which does not wait for the other
    (tmp_path / "line" / "bad_1.png").write_text("good at last")
    assert (next(results).kind, watch.counts["unreadable"]) == ("good", 0)
    (tmp_path / "line" / "gone.png").write_text("bad")
    assert watch.arrivals.take(0, 0.1) == []
    (tmp_path / "line" / "gone.png").unlink()
    assert list(watch.run(once=True)) == []  # nothing is told of a file that has gone
    results.close()


def test_files_are_moved_by_their_verdict_after_it_is_on_the_disk(made: Made, tmp_path: Path) -> None:
    line = tmp_path / "line"
    put(line, "good 1", "odd 2", "bad 3")
    watch = made(move={"good": line / "good", "anomalous": tmp_path / "odd", "unreadable": tmp_path / "bad"})
    for result in watch.run(once=True):
        assert (line / result.path).exists()
        assert result.path in kept(tmp_path / "out")
    assert [path.name for path in line.iterdir()] == ["good"]
    put(line, "good 1")  # another part with the same picture and name
    assert [result.kind for result in watch.run(once=True)] == ["good"]
    assert sorted(path.name for path in (line / "good").iterdir()) == ["good_1.png", "good_1_2.png"]
    assert list(watch.run(once=True)) == []  # those in its own folder are not its own images


def test_a_file_that_cannot_be_moved_stays_and_goes_later_without_a_second_verdict(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "line", "good 1", "good 2")
    said: list[str] = []
    watch = made(move={"good": tmp_path / "good"}, poll=0.02, say=said.append)

    def full(*paths: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(moving_module, "AGAIN", 0.3)
    with monkeypatch.context() as patch:
        patch.setattr(os, "link", full)
        assert len(list(watch.run(once=True))) == 2
    assert said == [
        f"{tmp_path / 'good'}: files cannot be moved there (no space left on the disk); "
        "they stay where they are, and it is tried again"
    ]
    end = time.monotonic() + LONG
    while list((tmp_path / "line").iterdir()) and time.monotonic() < end:
        assert list(watch.run(once=True)) == []
    assert len(list((tmp_path / "good").iterdir())) == 2


@pytest.mark.parametrize("where", ["lines", "table", "index"])
def test_a_full_disk_is_told_of_once_and_nothing_is_lost(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    put(tmp_path / "line", "good 1", "odd 2")
    said: list[str] = []
    watch = made(say=said.append)
    failures = [3]
    monkeypatch.setattr(record_module, "AGAIN", 0.01)
    write, fsync, put_places = journal_module._write, os.fsync, journal_module.Journal._set

    def fails(step: Callable[..., object], error: Exception) -> Callable[..., object]:
        def tried(*given: object, **named: object) -> object:
            is_first_line = step is write and given[0] == watch.record.journal._results
            if failures[0] and not is_first_line:
                failures[0] -= 1
                raise error
            return step(*given, **named)

        return tried

    full = OSError(errno.ENOSPC, "full")
    if where == "lines":
        monkeypatch.setattr(os, "fsync", fails(fsync, full))
    elif where == "table":
        monkeypatch.setattr(journal_module, "_write", fails(write, full))
    else:
        broken = sqlite3.OperationalError("database or disk is full")
        monkeypatch.setattr(journal_module.Journal, "_set", fails(put_places, broken))
    assert len(list(watch.run(once=True))) == 2
    assert failures == [0]
    assert [line.partition(" (")[0] for line in said] == ["results cannot be written", "results are written again"]
    assert kept(tmp_path / "out") == ["good_1.png", "odd_2.png"]
    assert (tmp_path / "out" / "results.csv").read_text().count("\n") == 3


def test_results_reach_the_log_once_each_though_it_was_away(made: Made, tmp_path: Path) -> None:
    put(tmp_path / "line", "good 1", "odd 2", "bad 3")
    (tmp_path / "log").mkdir()
    address = f"sqlite:///{tmp_path}/log/log.sqlite"
    list(made(log=address).run(once=True))
    close(made())  # without the log
    put(tmp_path / "line", "good 4")
    list(made().run(once=True))
    list(made(log=address).run(once=True))
    close(made())
    with closing(sqlite3.connect(tmp_path / "log" / "log.sqlite")) as log:
        rows = log.execute("SELECT name, is_anomaly, error FROM blemish_verdicts ORDER BY name").fetchall()
    assert rows == [
        ("bad_3.png", None, "is truncated"),
        ("good_1.png", 0, None),
        ("good_4.png", 0, None),
        ("odd_2.png", 1, None),
    ]


def test_results_wait_for_a_log_that_is_away_and_it_is_told_of_once(made: Made, tmp_path: Path) -> None:
    said: list[str] = []
    (tmp_path / "log").write_text("in the way")
    watch = made(log=f"sqlite:///{tmp_path}/log/log.sqlite", say=said.append)
    put(tmp_path / "line", "good 1", "odd 2")
    assert len(list(watch.run(once=True))) == 2
    assert len(said) == 1
    assert said[0].endswith("; results are kept here until it is back")
    (tmp_path / "log").unlink()
    (tmp_path / "log").mkdir()
    end = time.monotonic() + LONG
    while len(said) < 2 and time.monotonic() < end:
        assert list(watch.run(once=True)) == []
    close(watch)
    assert said[1:] == ["the log is written again"]
    with closing(sqlite3.connect(tmp_path / "log" / "log.sqlite")) as log:
        assert log.execute("SELECT count(*) FROM blemish_verdicts").fetchone() == (2,)


def test_results_are_those_of_the_model_with_heat_maps_of_anomalous_images(saved: Path, tmp_path: Path) -> None:
    line = write_parts(tmp_path / "line", 3, seed=8)
    Image.fromarray(scratched(np.random.default_rng(0))[0]).save(line / "scratch.png")
    (line / "empty.png").write_bytes(b"")
    os.truncate(shutil.copy(line / "000.png", line / "torn.png"), 4000)
    with watching(str(saved), line, outs=[str(tmp_path / "out")], patience=0.01) as watch:
        results = {result.path: result for result in watch.run(once=True)}
    expected = {p.path.name: p for p in blemish.load(saved).predict(line, errors="keep")}  # type: ignore[union-attr]
    assert results.keys() == expected.keys()
    for name, prediction in expected.items():
        result = results[name]
        assert (result.is_anomaly, result.boxes) == (prediction.is_anomaly, prediction.boxes)
        if prediction.error is None:
            assert result.score == pytest.approx(prediction.score, rel=1e-4)
        assert (result.map is not None) == bool(prediction.is_anomaly)
    assert results["empty.png"].error == "is empty (zero bytes); copy it again, or remove it"
    assert "cannot be decoded" in str(results["torn.png"].error)
    assert results["scratch.png"].map is not None
    with Image.open(tmp_path / "out" / results["scratch.png"].map) as picture:
        assert picture.size == (64, 64)


def test_a_model_that_is_replaced_judges_the_next_images_and_a_broken_one_does_not(
    saved: Path, long_model: blemish.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for pause in ("LOOK", "AGAIN"):
        monkeypatch.setattr(live_module, pause, 0.02)
    path, said = tmp_path / "cells.blemish", list[str]()
    shutil.copytree(saved, path)
    live = LiveModel(str(path), RunsOn("auto", "auto"), {}, said.append)
    first = live.current
    assert (first.name, len(first.version)) == ("cells", 12)

    def wait(count: int) -> None:
        end = time.monotonic() + LONG
        while len(said) < count and time.monotonic() < end:
            assert live.current
            time.sleep(0.02)

    card = (path / "model.json").read_bytes()
    (path / "model.json").write_bytes(card[:1000])  # half-copied
    wait(1)
    assert live.current is first
    assert said[0].endswith(f"version {first.version} continues to judge")
    assert "model.json: cannot be read" in said[0]
    (path / "features.bin").write_bytes(b"")  # and its weights, which are not those that run
    assert next(iter(first.model.judge([part(np.random.default_rng(1))]))).error is None
    shutil.rmtree(path)
    long_model.save(path)
    wait(2)
    second = live.current
    assert said[1:] == [f"{path}: was replaced; version {second.version} judges from now on"]
    assert second.model.recipe.detector == "gaussian"


def test_folders_that_lie_in_one_another_and_other_mistakes_are_refused_in_one_line(
    saved: Path, tmp_path: Path
) -> None:
    line = write_parts(tmp_path / "line", 1)
    for options, told in (
        ({"outs": [str(line)]}, "holds the watched folder .*line; give a folder that does not"),
        ({"outs": [str(tmp_path)]}, "holds the watched folder"),
        ({"move": {"good": tmp_path}}, "holds the watched folder"),
        ({"outs": ["a", "b"]}, "--out names 2 folders; give one folder, one database, or one of each"),
        ({"outs": ["sqlite:///a", "postgresql://b"]}, "--out names 2 databases"),
        ({"outs": ["s3://bucket/out"]}, "s3://… is not a known database"),
        ({"poll": 0.0}, "poll 0 is out of range"),
        ({"patience": float("nan")}, "patience nan is out of range"),
    ):
        with pytest.raises(SettingError, match=told), watching(str(saved), line, **options):  # type: ignore[arg-type]
            pass
    with pytest.raises(SourceError, match="absent: is not a folder"), watching(str(saved), tmp_path / "absent"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["line"]
    assert Places.of(["out", "sqlite:///a"]) == Places(Path("out"), "sqlite:///a")


def test_images_of_a_running_line_are_judged_while_more_come(made: Made, tmp_path: Path) -> None:
    watch = made(move={"good": tmp_path / "good"})
    results = watch.run()

    def write() -> None:
        for number in range(40):  # each is moved away as soon as it is closed, so nothing is done to it afterwards
            (tmp_path / "line" / f"good_{number}.png").write_text(f"good {number}")
            time.sleep(0.005)

    writer = threading.Thread(target=write)
    writer.start()
    names = {next(results).path for _ in range(40)}
    writer.join()
    results.close()
    assert len(names) == 40
