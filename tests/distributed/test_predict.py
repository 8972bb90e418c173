"""Predicting on a cluster: the rows of one process, once each, whoever is killed on the way."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image
from pyarrow import parquet

import blemish
from blemish.distributed.judging import Rates, judge_part
from blemish.distributed.parts import Counts, make_parts, read_counts, row_of
from blemish.distributed.predict import list_images, predict, settings_of
from blemish.errors import ModelError, SettingError, SourceError, StorageError
from blemish.storage.place import Place
from command import inside
from conftest import write_parts, write_tree
from elsewhere import put

SIZE = 4


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images, good and scratched, and one that cannot be read; not to be changed."""
    folder = write_tree(tmp_path_factory.mktemp("cells") / "cells", 1, 12) / "test"
    (folder / "scratch" / "bad.png").write_bytes(b"no image")
    return folder


def rows(folder: Path) -> list[dict[str, Any]]:
    return [row for file in sorted(folder.glob("part-*")) for row in parquet.read_table(file).to_pylist()]


def environment() -> dict[str, str]:
    """That of a command of its own, which does not know of the cluster that the tests share."""
    return {**{name: value for name, value in os.environ.items() if not name.startswith("RAY_")}, "COLUMNS": "200"}


def listening(process: psutil.Process) -> set[str]:
    """The addresses at which a process and its children take connections."""
    found = set()
    for child in [process, *process.children(recursive=True)]:
        with suppress(psutil.Error):
            connections = child.net_connections("inet")
            found |= {connection.laddr.ip for connection in connections if connection.status == psutil.CONN_LISTEN}
    return found


def programs(process: psutil.Process) -> str:
    """The commands of its children, one a line."""
    found = []
    for child in process.children(recursive=True):
        with suppress(psutil.Error):
            found.append(" ".join(child.cmdline()))
    return "\n".join(found)


def expected(model: blemish.Model, source: Path) -> list[dict[str, Any]]:
    """The rows of one process, which has no maps."""
    return [row_of(prediction) for prediction in model.predict(source, errors="keep")]


def without_maps(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, "map": None} for row in found]


def test_parts_are_divided_alike_and_named_by_all_that_decides_them() -> None:
    images = [(f"{number}.png", number) for number in range(10)]
    parts = make_parts(images, SIZE, {})
    assert [len(part.images) for part in parts] == [4, 4, 2]
    assert [image for part in parts for image in part.images] == images
    assert parts == make_parts(images, SIZE, {})
    longer = make_parts([*images, ("10.png", 10)], SIZE, {})
    assert longer[:2] == parts[:2], "more images at the end leave what is done as it is"
    assert longer[2].name != parts[2].name
    changed = make_parts([("0.png", 7), *images[1:]], SIZE, {})
    assert [part.name == other.name for part, other in zip(parts, changed, strict=True)] == [False, True, True]
    assert not {part.name for part in parts} & {part.name for part in make_parts(images, SIZE, {"maps": "png"})}


def test_what_is_wrong_is_told_before_a_cluster_is_started(saved: Path, cells: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(ModelError, match="no such model"):
        predict(tmp_path / "none", cells, out)
    with pytest.raises(SourceError, match="no such file or folder"):
        predict(saved, tmp_path / "none", out)
    for options in ({"images": 0}, {"threads": 0}, {"maps": "gif"}):
        with pytest.raises(SettingError):
            predict(saved, cells, out, **options)  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="no address of a cluster"):
        predict(saved, cells, out, address="nowhere")
    with pytest.raises(StorageError, match="nothing can be written to a web address"):
        predict(saved, cells, "https://host/results")
    assert not out.exists()


def test_a_changed_source_model_or_rate_is_noticed(saved: Path, cells: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    shutil.copytree(cells / "good", source)
    loaded = blemish.load(saved)
    parts = make_parts(list_images(source, 0), SIZE, settings_of(loaded, "npy", Rates()))
    for part in parts:
        judge_part(loaded, part, "npy", Place(str(out)))
    assert predict(saved, source, out, images=SIZE, maps="npy").computed == 0, "all is done, so no cluster is started"
    for rates in (Rates(false_alarm_rate=0.5), Rates(threshold=1.0), Rates(box_rate=0.5)):
        with pytest.raises(StorageError, match="of other images, another model or other settings"):
            predict(saved, source, out, images=SIZE, maps="npy", rates=rates)
    other = tmp_path / "other.blemish"
    loaded.at(threshold=1.0).save(other)
    with pytest.raises(StorageError, match="of other images, another model or other settings"):
        predict(other, source, out, images=SIZE, maps="npy")
    for number in range(8, 12):
        (source / f"{number:03d}.png").unlink()
    with pytest.raises(StorageError, match="or remove such parts with --force"):
        predict(saved, source, out, images=SIZE, maps="npy")
    assert predict(saved, source, out, images=SIZE, maps="npy", force=True).counts.images == 8
    assert len(rows(out)) == 8
    assert Place(str(out)).names("_maps") == [f"{part.stem}/" for part in parts[:2]], "maps go with their part"
    (out / "notes.txt").write_text("mine")
    with pytest.raises(StorageError, match=r"holds notes\.txt, which blemish did not write there"):
        predict(saved, source, out, images=SIZE, maps="npy", force=True)
    assert (out / "notes.txt").read_text() == "mine"


@pytest.mark.usefixtures("cluster")
def test_a_cluster_gives_the_rows_of_one_process(
    model: blemish.Model, saved: Path, cells: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    loaded = blemish.load(saved)
    part = make_parts(list_images(cells, 0), SIZE, settings_of(loaded, "npy", Rates()))[2]
    judge_part(loaded, part, "npy", Place(str(out)))
    before = {file: file.stat().st_mtime_ns for file in out.glob("part-*")}
    seen: list[int] = []
    done = predict(saved, cells, out, images=SIZE, maps="npy", progress=lambda _, count, total: seen.append(count))
    wanted = expected(model, cells)
    assert without_maps(rows(out)) == wanted
    anomalies = sum(row["is_anomaly"] is True for row in wanted)
    assert done.counts == Counts(25, anomalies, 1)
    assert (done.parts, done.computed) == (7, 6), "what is there already is not computed again"
    assert (seen[0], seen[-1], len(seen)) == (4, 25, 7)
    (bad,) = [row for row in rows(out) if row["error"]]
    assert bad["path"] == str(cells / "scratch" / "bad.png")
    assert (bad["score"], bad["is_anomaly"], bad["map"]) == (None, None, None)
    first = next(iter(model.predict(cells, errors="keep")))
    assert (np.load(out / rows(out)[0]["map"]) == first.map).all()
    assert json.loads((out / "_blemish.json").read_text())["images"] == 25
    pandas = pytest.importorskip("pandas")
    assert len(pandas.read_parquet(out)) == 25, "readers of Parquet take the folder as a whole"

    assert {file: file.stat().st_mtime_ns for file in before} == before
    before = {file: file.stat().st_mtime_ns for file in out.glob("part-*")}
    again = predict(saved, cells, out, images=SIZE, maps="npy")
    assert (again.computed, again.counts) == (0, done.counts)
    assert {file: file.stat().st_mtime_ns for file in out.glob("part-*")} == before


@pytest.mark.usefixtures("cluster")
def test_the_command_reads_and_writes_a_bucket(
    model: blemish.Model, s3: str, cells: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, place, out = put(cells, f"{s3}/cells"), f"{s3}/cells.blemish", f"{s3}/out"
    model.save(place)
    done = inside(capsys, "predict", place, source, "--out", out, "--ray", "local", "--part", 13, "--json")
    assert done.returncode == 3, done.stderr
    assert json.loads(done.stdout)["computed"] == 2
    found = Place(out)
    parts = [name for name in found.names() if name.startswith("part-")]
    got = [row for name in parts for row in parquet.read_table(io.BytesIO(found.read(name, 1 << 20))).to_pylist()]
    assert got == [{**row, "path": row["path"].replace(str(cells), source)} for row in expected(model, cells)]
    assert predict(place, source, out, images=13).computed == 0
    assert "testing-secret" not in done.stdout + done.stderr + found.read("_blemish.json", 1 << 20).decode()


@pytest.mark.usefixtures("cluster")
def test_a_worker_that_is_killed_loses_no_row_and_doubles_none(
    model: blemish.Model, saved: Path, cells: Path, tmp_path: Path
) -> None:
    killed: list[int] = []

    def kill(_: str, done: int, total: int) -> None:
        if done and not killed:
            workers = [
                child for child in psutil.Process().children(recursive=True) if "MapWorker" in " ".join(child.cmdline())
            ]
            killed.append(workers[0].pid)
            workers[0].kill()

    # By another name the cluster is one whose machines do not have the model, which is sent to them.
    done = predict(saved, cells, tmp_path / "out", images=1, address="auto", progress=kill)
    assert killed
    assert done.counts.images == 25
    assert rows(tmp_path / "out") == expected(model, cells)


@pytest.mark.usefixtures("cluster")
def test_after_a_driver_was_killed_only_what_is_missing_is_computed(
    model: blemish.Model, saved: Path, cells: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "blemish", "predict", saved, cells, "--out", out, "--ray", "local", "--part", 1]
    driver = subprocess.Popen(list(map(str, command)), env=environment(), stderr=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while len(list(out.glob("part-*"))) < 2:
        assert driver.poll() is None
        assert time.monotonic() < end
        time.sleep(0.005)
    heard, run = listening(psutil.Process(driver.pid)), programs(psutil.Process(driver.pid))
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    time.sleep(1)  # its workers end with it
    before = {file: file.stat().st_mtime_ns for file in out.glob("part-*")}
    assert heard, "the cluster listens"
    assert heard <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}, "to this machine alone"
    assert "raylet" in run
    assert "UsageStatsHead" not in run, "no process that reports Ray's use, or asks which cloud this is"
    assert 2 <= len(before) < 25, "some were done and some not"
    assert not (out / "_blemish.json").exists()
    done = predict(saved, cells, out, images=1)
    assert done.computed == 25 - len(before)
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert rows(out) == expected(model, cells)
    assert not [file for file in out.iterdir() if file.name.endswith(".unfinished")]


@pytest.mark.usefixtures("cluster")
def test_the_command_prints_counts_and_draws_maps(
    saved: Path, cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    done = inside(capsys, "predict", saved, cells, "--ray", "local", "--out", out, "--maps", "overlay", "--json")
    assert done.returncode == 3, done.stderr
    told = json.loads(done.stdout)
    assert (told["images"], told["errors"], told["parts"], told["computed"]) == (25, 1, 1, 1)
    drawn = [row["map"] for row in rows(out) if row["map"]]
    assert len(drawn) == 24
    with Image.open(out / drawn[0]) as picture:
        assert picture.size == (96, 96), "the image's own pixels"
    done = inside(capsys, "predict", saved, cells, "--ray", "local", "--out", out, "--maps", "overlay")
    assert done.stdout.startswith("25 images, ")
    assert "1 could not be read" in done.stdout
    assert "1 Parquet file, 1 of them from an earlier run" in done.stdout


def test_a_machine_without_the_images_says_so_and_a_missing_image_is_a_row(
    model: blemish.Model, saved: Path, tmp_path: Path
) -> None:
    place, loaded = Place(str(tmp_path / "out")), blemish.load(saved)
    (part,) = make_parts([("/absent/folder/000.png", 5)], SIZE, {})
    with pytest.raises(SourceError, match="its folder is not on this machine"):
        judge_part(loaded, part, "none", place)
    images = write_parts(tmp_path / "few", 2)
    (part,) = make_parts([(str(images / name), None) for name in ("000.png", "absent.png")], SIZE, {})
    assert judge_part(loaded, part, "none", place) == read_counts(place, part.name)
    assert [row["error"] for row in rows(tmp_path / "out")] == [None, "does not exist; check the path"]
    (tmp_path / "out" / part.name).write_bytes(b"PAR1")
    with pytest.raises(StorageError, match=f"{part.name} is damaged; remove it"):
        judge_part(loaded, part, "none", place)


@pytest.mark.parametrize("kind", ["here", "elsewhere"])
def test_a_part_is_the_same_here_and_elsewhere(
    model: blemish.Model, saved: Path, cells: Path, tmp_path: Path, kind: str
) -> None:
    where = str(tmp_path / "out") if kind == "here" else "watched://predicted/out"
    source = cells / "scratch" if kind == "here" else put(cells / "scratch", "watched://predicted/scratch")
    loaded = blemish.load(saved)
    names = [f"{source}/{name}" for name in ("000.png", "bad.png")]
    (part,) = make_parts([(name, None) for name in names], SIZE, {})
    counts = judge_part(loaded, part, "overlay", Place(where))
    assert counts == Counts(2, counts.anomalies, 1)
    assert Place(where).names() == ["_maps/", part.name]
    assert Place(where).names(f"_maps/{part.stem}") == ["00000_000.jpg"]
    table = parquet.read_table(io.BytesIO(Place(where).read(part.name, 1 << 20))).to_pylist()
    assert [row["path"] for row in table] == names
    assert table[0]["score"] == next(iter(model.predict(cells / "scratch" / "000.png"))).score
