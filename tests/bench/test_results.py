"""The file of results: what is read of it, what is refused, and what is never damaged."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from blemish.bench import results as results_module
from blemish.bench.results import Result, append_result, check_complete, check_writable, read_results
from blemish.errors import SettingError, StorageError

ONE = Result("made-up", "Fixed", "one", 0, figures={"pixel.auroc": 0.5})
TWO = Result("made-up", "Fixed", "two", 0, figures={"pixel.auroc": 0.6})


@pytest.mark.parametrize("content", [b"notes without an end", b'{"a": 1}', b"[]", bytes(range(256)), b"\n"])
def test_a_file_that_no_run_wrote_is_refused_and_left_as_it_is(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "mine"
    path.write_bytes(content)
    with pytest.raises(StorageError, match="line 1 is not a result"):
        check_writable(path)
    assert path.read_bytes() == content


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/null")):
        with pytest.raises(StorageError, match="is not a regular file; give another one with --output"):
            check_writable(path)
    with pytest.raises(StorageError, match="File name too long"):
        check_writable(tmp_path / ("x" * 300))


def test_a_whole_line_whose_end_an_editor_took_away_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps(asdict(ONE)))
    assert read_results(path) == [ONE]
    append_result(path, TWO)
    assert read_results(path) == [ONE, TWO]


def test_a_full_disk_leaves_the_lines_that_were_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "r.jsonl"
    append_result(path, ONE)
    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="no space left on the disk"):
        append_result(path, TWO)
    assert path.read_bytes() == before


def test_a_line_that_could_not_be_read_again_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results_module, "LONGEST_LINE", 100)
    with pytest.raises(StorageError, match="has over 100 bytes"):
        append_result(tmp_path / "r.jsonl", ONE)
    assert not (tmp_path / "r.jsonl").exists()


IMAGE = {"name": "a", "is_anomalous": True, "score": 1.0, "pixel_auroc": None, "aupimo": None}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"figures": {"pixel.auroc": float("nan")}}, "is not a result"),
        ({"figures": {"pixel.auroc": 10**400}}, "pixel.auroc is not a number"),
        ({"seconds": {"fit": "long"}}, "seconds of fit are not a number"),
        ({"fit": {"size": "64"}}, "size is not a height and a width"),
        ({"fit": {"backbone": 3}}, "backbone is not text"),
        ({"data": {"source": 3}}, "source is not text"),
        ({"images": [IMAGE, 1]}, "image 1 is not complete"),
        ({"images": [{**IMAGE, "score": "high"}]}, "image 0 is not complete"),
        ({"images": [{**IMAGE, "is_anomalous": "no"}]}, "image 0 is not complete"),
        ({"against": [1]}, "a difference is not complete"),
        ({"against": [{"figure": "x", "difference": 0.1, "interval": {"low": 0}}]}, "a difference is not complete"),
    ],
)
def test_a_line_that_was_edited_is_refused_in_a_sentence(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps({**asdict(ONE), "images": [IMAGE], **changes}) + "\n")
    with pytest.raises(StorageError, match=words):
        read_results(path)


def test_a_name_that_no_result_has_is_told_with_those_there_are() -> None:
    check_complete([ONE, TWO], "r.jsonl", "made-up", ["two"], ["Fixed"])
    with pytest.raises(SettingError, match="no results of the category 'three'; it has those of one, two"):
        check_complete([ONE, TWO], "r.jsonl", "made-up", ["three"])
    with pytest.raises(SettingError, match="no results of the entry 'fixed'; it has those of Fixed"):
        check_complete([ONE, TWO], "r.jsonl", "made-up", [], ["fixed"])
