from __future__ import annotations

import json
from pathlib import Path

import pytest

from browser import chromium, watched
from command import inside


def test_predict_then_review_by_keys_then_a_tree_that_evaluate_reads(
    small: Path, tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, labelled = tmp_path / "out", tmp_path / "labelled"
    done = inside(capsys, "predict", small, tree / "test", "--out", out, "--review")
    assert done.returncode == 0, done.stderr
    assert f"review them in a browser: {out}/review.html" in " ".join(done.stderr.split())
    assert not (out / "maps").exists(), "the page has its own pictures"
    with chromium() as running:
        context = running.new_context(accept_downloads=True)
        with watched(context, (out / "review.html").as_uri(), (out.as_uri() + "/", "blob:")) as page:
            for _ in range(10):
                page.keyboard.press("a")
            assert page.locator("#progress").text_content() == "10 of 10 reviewed"
            with page.expect_download() as download:
                page.click("#save")
            download.value.save_as(tmp_path / "review.json")
        context.close()
    done = inside(capsys, "review", tmp_path / "review.json", "-o", labelled, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    found = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert told["anomalous"] == told["masks"] == sum(line["is_anomaly"] for line in found) > 0
    assert told["good"] == 10 - told["anomalous"]
    done = inside(capsys, "evaluate", small, labelled, "--json")
    assert done.returncode == 0, done.stderr
    evaluated = json.loads(done.stdout)
    assert evaluated["decisions"]["detection_rate"] == 1
    assert evaluated["pixel"]["auroc"] > 0.5
    assert "--force" in inside(capsys, "review", tmp_path / "review.json", "-o", labelled).stderr
    said = inside(capsys, "review", tmp_path / "review.json", "-o", labelled, "--force", "--train", 0.5)
    assert f"anomalous to test, {told['masks']} with a mask" in said.stdout


def test_formats_are_printed_without_a_folder_and_say_what_they_cannot_do(
    small: Path, tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    part = tree / "test" / "scratch"
    done = inside(capsys, "predict", small, part, "--format", "coco")
    assert [image["file_name"] for image in json.loads(done.stdout)["images"]] == [f"00{n}.png" for n in range(5)]
    assert inside(capsys, "predict", small, part, "--format", "csv").stdout.count("\n") == 6
    several = ("--format", "csv", "--format", "coco", "--format", "csv", "--maps", "none")
    assert inside(capsys, "predict", small, part, "--out", tmp_path / "out", *several).returncode == 0
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"results.jsonl", "images.csv", "boxes.csv", "coco.json", "blemish.json"}
    for words, told in (
        (("--format", "yolo"), "--format yolo needs a folder to write to; give --out DIR"),
        (("--format", "csv", "--format", "coco"), "--format csv --format coco needs a folder to write to"),
        (("--review",), "--review needs a folder"),
        (("--format", "csv", "--json"), "--json prints lines of JSON, and --format csv was given too"),
        (("--ray", "local", "--out", "out", "--review"), "--ray writes Parquet only"),
    ):
        done = inside(capsys, "predict", small, part, *words)
        assert done.returncode == 2
        assert told in " ".join(done.stderr.split())
