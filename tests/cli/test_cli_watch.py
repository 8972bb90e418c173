"""`blemish watch` as a user meets it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command import ENVIRONMENT, as_in_a_terminal, inside
from conftest import scratched, write_parts


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three good parts, one with a scratch, and a file that is no image; not to be changed."""
    folder = write_parts(tmp_path_factory.mktemp("line") / "line", 3, seed=6)
    Image.fromarray(scratched(np.random.default_rng(0))[0]).save(folder / "scratch.png")
    (folder / "[bold].png").write_bytes(b"none")
    return folder


def test_each_image_has_a_line_and_counts_end_it(
    saved: Path, line: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = inside(capsys, "watch", saved, line, "--once", "--patience", "0.01", "--out", tmp_path / "out")
    assert done.returncode == 3  # one could not be read
    assert {printed.split()[0] for printed in done.stdout.splitlines()} == {"good", "anomalous", "error"}
    assert "[bold].png: is not an image of a known format" in done.stdout
    assert "false-alarm rate of at most" in done.stderr
    assert done.stderr.splitlines()[-1].endswith(" 1 unreadable")
    assert done.stderr.splitlines()[-1].startswith("5 images in ")
    again = inside(capsys, "watch", saved, line, "--once", "--out", tmp_path / "out")
    assert (again.returncode, again.stdout) == (0, "")
    assert again.stderr.splitlines()[-1].startswith("0 images in ")


def test_lines_of_json_are_those_in_the_folder_and_drift_reads_them(
    saved: Path, line: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = inside(
        capsys, "watch", saved, line, "--once", "--json", "--patience", "0.01", "--out", tmp_path / "out",
        "--false-alarm-rate", 0.5, "--maps", "png",
    )  # fmt: skip
    results = tmp_path / "out" / "results.jsonl"
    assert done.stdout == results.read_text()
    said = {found["path"]: found for found in map(json.loads, done.stdout.splitlines())}
    assert said["scratch.png"]["is_anomaly"]
    assert {found["false_alarm_rate"] for found in said.values()} == {0.5}
    assert all((tmp_path / "out" / found["map"]).is_file() for found in said.values() if "error" not in found)
    drift = json.loads(inside(capsys, "drift", saved, results, "--json").stdout)
    assert (drift["images"], drift["unreadable"]) == (4, 1)


def test_a_log_alone_keeps_what_was_judged_in_the_current_folder(
    saved: Path, line: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("watch", saved, line, "--once", "--patience", "0.01", "--out", "sqlite:///log.sqlite")
    assert inside(capsys, *words).returncode == 3
    assert inside(capsys, *words).returncode == 0
    assert (tmp_path / "blemish-watch" / "results.jsonl").read_text().count("\n") == 5
    assert not (tmp_path / "blemish-watch" / "overlays").exists()
    assert len(inside(capsys, "log", "sqlite:///log.sqlite").stdout.splitlines()) == 5


def test_a_signal_ends_it_with_counts_and_status_0(saved: Path, line: Path, tmp_path: Path) -> None:
    shutil.copytree(line, tmp_path / "line")
    command = [sys.executable, "-m", "blemish", "watch", saved, tmp_path / "line", "--json", "--out", tmp_path / "out"]
    with subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=as_in_a_terminal
    ) as running:
        assert running.stdout is not None
        assert json.loads(running.stdout.readline())["path"]
        write_parts(tmp_path / "new", 1, seed=9)
        os.rename(tmp_path / "new" / "000.png", tmp_path / "line" / "late.png")
        while json.loads(running.stdout.readline())["path"] != "late.png":
            pass
        time.sleep(0.05)
        running.send_signal(signal.SIGTERM)
        _, errors = running.communicate(timeout=60)
    assert running.returncode == 0, errors
    assert errors.startswith("ended by SIGTERM: ")
    assert len(errors.splitlines()) == 1
    assert "late.png" in (tmp_path / "out" / "results.csv").read_text()


def test_mistakes_are_told_in_one_line(
    saved: Path, line: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, told in (
        ((line, "--move", "fine=a"), "--move 'fine=a' is not valid; give good=DIR"),
        ((line, "--every", "1"), "--every is for cameras; leave it out for a folder"),
        ((line, "--keep", "all"), "--keep is for cameras"),
        (("camera:0", "--poll", "1"), "--poll is for folders; leave it out for a camera"),
        ((line, "--out", line), "holds the watched folder"),
        ((line, "--out", "mysql://a"), "mysql://… is not a known database"),
        ((tmp_path / "absent",), "absent: is not a folder that can be watched; check the path"),
        ((line, "--false-alarm-rate", "0.001"), "false-alarm rate"),
    ):
        done = inside(capsys, "watch", saved, *words, "--once")
        assert done.returncode in {1, 2}, words
        assert told in done.stderr
        assert len(done.stderr.splitlines()) == 1
    missing = inside(capsys, "watch", tmp_path / "absent.blemish", line, "--once")
    assert "absent.blemish: no such model; check the path" in missing.stderr
