"""`blemish evaluate` with several models, and what it writes beside the figures."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from command import inside


def test_several_models_are_compared_on_the_same_images(
    small: Path, saved: Path, tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("evaluate", saved, small, tree, "--images", tmp_path / "i.csv", "--table", tmp_path / "t.tex")
    done = inside(capsys, *words, "--curves", tmp_path / "curves", "--report", tmp_path / "r.html")
    assert done.returncode == 0, done.stderr
    names = [f"{path.parent.name}/parts" for path in (saved, small)]
    assert f"{names[0]} minus {names[1]}, in percentage points, with 95 % intervals:" in done.stdout
    assert "  image AUROC: +0.00; not known" in done.stdout
    rows = list(csv.DictReader((tmp_path / "i.csv").read_text().splitlines()))
    assert [row["model"] for row in rows] == 10 * names[:1] + 10 * names[1:]
    assert "Side by side" in (tmp_path / "r.html").read_text()
    assert (tmp_path / "curves" / "image_roc.svg").is_file()
    told = json.loads(inside(capsys, "evaluate", saved, small, tree, "--json").stdout)
    assert [each["model"]["detector"] for each in told["evaluations"]] == ["fre", "gaussian"]
    assert [each["model"]["path"] for each in told["evaluations"]] == [str(saved), str(small)]
    assert told["differences"][0][0]["figure"] == "image_auroc"


def test_boxes_are_told_by_how_many_marked_defects_they_match(
    small: Path, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert " of 5 marked defects matched by " in inside(capsys, "evaluate", small, tree).stdout


def test_what_cannot_be_written_is_told_before_any_image_is_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "curves").mkdir()
    (tmp_path / "r_files").mkdir()
    for option, place, told in (
        ("--table", "t.pdf", "tables end in"),
        ("--curves", "curves", "--force"),
        ("--report", "r.html", "--force"),
    ):
        done = inside(capsys, "evaluate", "no-model", "no-data", option, tmp_path / place)
        assert done.returncode == (2 if "end in" in told else 1), told
        assert done.stderr.startswith("error: ")
        assert told in done.stderr
