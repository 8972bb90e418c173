"""`blemish drift` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command import inside
from conftest import part, write_parts


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good parts, and from the 21st on parts under another light."""
    folder = write_parts(tmp_path_factory.mktemp("line") / "line", 20, seed=3)
    rng = np.random.default_rng(4)
    for index in range(20, 50):
        Image.fromarray((0.7 * part(rng)).astype(np.uint8)).save(folder / f"{index:03d}.png")
    return folder


def test_drift_says_since_which_image_and_draws_it(
    saved: Path, line: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = inside(capsys, "drift", saved, line, "-o", tmp_path / "drift.png", "--window", 20)
    assert done.returncode == 0, done.stderr
    assert "drift since about image 2" in done.stdout
    assert "scores are higher than before" in done.stdout
    assert "the latest 20: mean p-value 0.0" in done.stdout
    assert "they do after `blemish calibrate` on new images" in done.stderr
    assert (tmp_path / "drift.png").read_bytes().startswith(b"\x89PNG")
    told = json.loads(inside(capsys, "drift", saved, line, "--json").stdout)
    assert told["drift"]
    assert abs(told["since"] - 20) <= 2
    assert told["names"][told["since"]].endswith(f"{told['since']:03d}.png")
    assert (told["images"], told["known"], told["unreadable"]) == (50, 0, 0)


def test_predictions_in_a_file_give_the_same_as_their_images(
    saved: Path, line: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert inside(capsys, "predict", saved, line, "--out", tmp_path / "out", "--maps", "none").returncode == 0
    of_images, of_lines = (
        json.loads(inside(capsys, "drift", saved, source, "--json").stdout)
        for source in (line, tmp_path / "out" / "results.jsonl")
    )
    assert of_images == of_lines
    folder = inside(capsys, "drift", saved, tmp_path / "out")
    assert folder.returncode == 1
    assert f"holds results of predict; give {tmp_path / 'out' / 'results.jsonl'}" in folder.stderr
    elsewhere = inside(capsys, "drift", saved, "s3://bucket/results.jsonl")
    assert "s3://bucket/results.jsonl: lines are read on this machine only; copy it here" in elsewhere.stderr


def test_good_images_show_no_drift_and_known_and_unreadable_ones_are_left_out_and_counted(
    saved: Path, tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.png").write_bytes(b"x")
    done = inside(capsys, "drift", saved, tree / "train" / "good", tree / "test" / "good", tmp_path / "bad.png")
    assert done.returncode == 3
    assert "no drift seen in 5 images" in done.stdout
    assert "24 that the model was fitted on and 1 that could not be read are left out" in done.stderr
    assert "bad.png" in done.stderr
    nothing = inside(capsys, "drift", saved, tree / "train" / "good")
    assert nothing.returncode == 1
    assert "error: no image is left to judge: 24 that the model was fitted on and 0" in nothing.stderr


def test_what_cannot_be_done_is_told_in_one_line_before_images_are_scored(
    saved: Path, line: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "there.png").write_bytes(b"mine")
    (tmp_path / "results.jsonl").write_text('{"path": "a.png"}\n')
    for words, told in (
        (("absent", "--level", "0.5"), "level 0.5 is out of range"),
        (("absent", "--window", "0"), "window 0 is out of range"),
        (("absent", "-o", tmp_path / "drift.txt"), "pictures end in"),
        (("absent", "-o", tmp_path / "there.png"), "exists"),
        (("absent",), "absent"),
        ((tmp_path / "absent.jsonl",), "absent.jsonl: cannot be read"),
        ((tmp_path / "results.jsonl",), "results.jsonl: line 1 is not a prediction (it has no score)"),
    ):
        done = inside(capsys, "drift", saved, *words)
        assert done.returncode == (2 if "out of range" in told or "end in" in told else 1), words
        errors = [found for found in done.stderr.splitlines() if found.startswith("error:")]
        assert len(errors) == 1
        assert told in errors[0]
        assert "Traceback" not in done.stderr
