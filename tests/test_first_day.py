"""The first days in `docs/first-day`, as an engineer, a biologist and a researcher go through them, on real images."""

from __future__ import annotations

import csv
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from command import ENVIRONMENT, inside
from first_day_pages import Truth, commands, review, write_bottles, write_photographs


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new folder in which commands are run."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def go_through(page: str, capsys: pytest.CaptureFixture[str]) -> Iterator[tuple[str, str]]:
    """Runs a page line by line, and yields each line before it runs, then all that it printed."""
    names: dict[str, object] = {}
    for kind, code in commands(page):
        yield "before", code
        if kind == "python":
            exec(compile(code, page, "exec"), names)
            printed = capsys.readouterr().out
        else:
            name, *words = shlex.split(code, comments=True)
            if name == "blemish":
                done = inside(capsys, *words)
            else:
                done = subprocess.run(
                    [sys.executable, *words], capture_output=True, text=True, check=False, env=ENVIRONMENT
                )
            assert done.returncode == 0, f"{code}\n{done.stderr}"
            printed = done.stdout + done.stderr
        yield code, printed


def outcomes(page: str, results: str, truth: Truth, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """Runs a page, with the person's review where the page says so; what each line printed, by the line."""
    found = {}
    for line, told in go_through(page, capsys):
        if line != "before":
            found[line] = told
        elif told.startswith("blemish review"):
            review(Path(results, "review.html"), truth)
    return found


def beginning(found: dict[str, str], words: str) -> str:
    """What the only line that begins so printed."""
    (printed,) = (printed for line, printed in found.items() if line.startswith(words))
    return printed


def test_an_engineers_first_day(data: Path, fresh: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = write_bottles(data, Path("bottles"), 24, 12, 8)
    found = outcomes("engineer.md", "results", truth, capsys)
    lines = [json.loads(line) for line in Path("results/results.jsonl").read_text().splitlines()]
    wrong = [line["path"] for line in lines if line["is_anomaly"] != (truth[Path(line["path"]).name] is not None)]
    assert len(wrong) <= 2, wrong
    assert len(list(Path("results/maps").iterdir())) == 12
    assert "layer 3" in beginning(found, "blemish explain")
    masks = sum(mask is not None for mask in truth.values())
    assert len(list(Path("labelled/ground_truth/anomalous").iterdir())) == masks
    assert "labelled" in Path("report.html").read_text()
    assert not list(Path("line").iterdir())
    assert len(list(Path("passed").iterdir())) + len(list(Path("stopped").iterdir())) == 12
    assert "learned from 8 new images, 32 in all" in beginning(found, "blemish update")
    assert "no drift" in beginning(found, "blemish drift")
    judged = json.loads(beginning(found, "python bottles-openvino/predict.py"))
    assert judged["is_anomaly"] is True


def test_a_biologists_first_day(data: Path, fresh: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = write_photographs(data, fresh, 20, 2, (8, 6))
    found = outcomes("biologist.md", "found", truth, capsys)
    with Path("found/images.csv").open(newline="") as file:
        images = list(csv.DictReader(file))
    with Path("found/boxes.csv").open(newline="") as file:
        boxes = list(csv.DictReader(file))
    assert [row["image"] for row in images] == ["1500.jpg", "1800.jpg"]
    assert sum(int(row["boxes"]) for row in images) == len(boxes) > 0
    features = json.loads(Path("map/boxes.geojson").read_text())["features"]
    assert sum(feature["properties"]["kind"] == "box" for feature in features) == len(boxes)
    more = json.loads(Path("more/coco.json").read_text())["annotations"]
    assert len(more) > len(boxes)
    assert "tile of 256 pixels" in beginning(found, "blemish explain")
    assert len(list(Path("animals/ground_truth/anomalous").iterdir())) == 2
    assert "pixel" in Path("animals.csv").read_text()


def test_a_researchers_first_day(data: Path, fresh: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for part, kinds in (("train", {"good": 24}), ("test", {"good": 6, "broken_large": 6, "contamination": 6})):
        for kind, count in kinds.items():
            folder = fresh / "mvtec" / "bottle" / part / kind
            folder.mkdir(parents=True)
            source = data / "mvtec" / "bottle" / part / kind
            for path in sorted(source.iterdir())[:count]:
                os.symlink(path, folder / path.name)
    os.symlink(data / "mvtec" / "bottle" / "ground_truth", fresh / "mvtec" / "bottle" / "ground_truth")
    found = outcomes("researcher.md", "", {}, capsys)
    rows = list(
        csv.DictReader(beginning(found, "blemish bench table fre-table-6 results.jsonl --format csv").splitlines())
    )
    (row,) = (row for row in rows if row["row"] == "ResNet-50 1L" and row["category"] == "bottle")
    assert 80 < float(row["value"]) < 100
    assert row["published"] == "95.5"
    assert "efficientnet_lite0" in row["measured with"]
    assert "\\toprule" in beginning(found, "blemish bench table fre-table-6 results.jsonl --format latex")
    assert "±" in beginning(found, "blemish bench run padim-table-2")
    assert "\\toprule" in Path("table.tex").read_text()
    assert list(Path("curves").glob("*.svg"))
