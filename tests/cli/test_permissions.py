"""What may not be read or written: files, folders, models and the cache, for a process that is not all-powerful."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="capabilities are dropped as Linux does it")

DAC = (1, 2)
"""The capabilities by which the superuser reads and writes whatever the permissions are."""

PROGRAM = """
import contextlib, io, json, sys
from blemish.cli import main
for words in json.loads(sys.argv[1]):
    sys.argv, code = ["blemish", *words], None
    with contextlib.redirect_stderr(io.StringIO()) as errors, contextlib.redirect_stdout(io.StringIO()) as told:
        try:
            main()
        except SystemExit as left:
            code = left.code
    print(json.dumps([code, told.getvalue(), errors.getvalue()]))
"""


def without_power() -> None:
    """Takes from a process that is about to start what makes permissions mean nothing to the superuser."""
    for capability in DAC:
        ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


def run(*commands: tuple[object, ...], **variables: str) -> list[tuple[int, str, str]]:
    """Runs commands in one process; returns the status, the output and the errors of each."""
    words = json.dumps([[str(word) for word in command] for command in commands])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, words],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=without_power,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "COLUMNS": "400", "NO_COLOR": "1", **variables},
    )
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


def errors_of(stderr: str) -> list[str]:
    return [line.removeprefix("error: ") for line in stderr.splitlines() if line.startswith("error: ")]


@pytest.fixture
def parts(tree: Path, tmp_path: Path) -> Path:
    """A tree in which an image of each part may not be read."""
    root = shutil.copytree(tree, tmp_path / "parts")
    for name in ("train/good/003.png", "test/scratch/001.png"):
        (root / name).chmod(0)
    return root


def test_what_may_not_be_read_or_written_is_said_in_a_line_and_bad_images_are_bad_images(
    parts: Path, small: Path, tmp_path: Path
) -> None:
    read_only, locked, model = tmp_path / "read-only", tmp_path / "locked", tmp_path / "m.blemish"
    read_only.mkdir(0o555)
    locked.mkdir(0o000)
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "away.png").symlink_to(locked / "x.png")
    shutil.copytree(small, model)
    (model / "model.json").chmod(0)
    train, test = parts / "train", parts / "test"
    cases: dict[tuple[object, ...], tuple[int, str]] = {
        ("predict", small, test): (3, "001.png: may not be read; check its permissions"),
        ("evaluate", small, parts): (3, "001.png: may not be read; check its permissions"),
        ("check", parts): (1, ""),
        ("check", test / "scratch"): (1, ""),
        ("predict", small, locked): (1, f"{locked}: may not be read; check its permissions"),
        ("predict", small, linked): (3, "away.png: may not be read; check its permissions"),
        ("predict", model, test): (1, "model.json"),
        ("predict", locked / "m.blemish", test): (1, "locked"),
        ("evaluate", small, parts, "--report", read_only / "r.html"): (1, "may not be written to"),
        ("predict", small, test, "--out", read_only / "r"): (1, "may not be written to"),
        ("predict", small, test, "--out", locked / "r"): (1, "locked"),
        ("fit", train, "-o", read_only / "m"): (1, "may not be written to"),
        ("fit", parts, "-o", tmp_path / "new", "--detector", "gaussian", "--size", 64): (1, "003.png may not be read"),
        ("watch", small, test, "--once", "--out", read_only / "w"): (1, "read-only"),
    }
    for (words, (status, told)), (code, output, errors) in zip(cases.items(), run(*cases), strict=True):
        assert code == status, (words, output, errors)
        assert told in output + errors, (words, errors)
        assert "Traceback" not in errors
        assert "an error in blemish" not in errors, (words, errors)
        assert len(errors_of(errors)) == (words[0] != "check" and status == 1), (words, errors)
    assert not list(read_only.iterdir())
    read_only.chmod(0o755)
    locked.chmod(0o755)


def test_a_fit_goes_on_without_a_cache_that_may_not_be_used_and_notes_it_once(parts: Path, tmp_path: Path) -> None:
    place = tmp_path / "cache"
    place.mkdir(0o000)
    fit = ("fit", parts, "-o", tmp_path / "new", "--detector", "gaussian", "--size", 64, "--layers", "2", "--skip-bad")
    ((code, output, errors),) = run(fit, BLEMISH_CACHE=str(place))
    assert code == 0, errors
    assert "saved to" in output
    notes = [line for line in errors.splitlines() if "cannot be kept in" in line]
    assert len(notes) == 1, errors
    assert notes[0].startswith(f"note: the converted backbone cannot be kept in {place} (")
    assert notes[0].endswith("set BLEMISH_CACHE to a folder that can be written, or to nothing")
    place.chmod(0o755)
