"""Names of files that no encoding has, that would forge a line, or that are too long."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from command import ENVIRONMENT, blemish, inside
from conftest import write_parts

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="names are bytes there")

NAMES = [
    b"caf\xe9.png",
    "🔬.png".encode(),
    b"a\nerror: forged.png",
    b"\x1b[2K\x1b[1Ared.png",
    b"[red]x[bold].png",
    b"-q.png",
    "gnp\u202e.exe.png".encode(),
    b"n" * 251 + b".png",
]
LONG = "l" * 300


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree whose images, good, anomalous and unreadable, have these names; not to be changed."""
    root = tmp_path_factory.mktemp("named")
    (image,) = (path for path in write_parts(root / "one", 1, seed=5).iterdir())
    for folder in ("train/good", "test/good", "test/scratch", "bad"):
        (root / "tree" / folder).mkdir(parents=True)
        for name in NAMES:
            to = os.path.join(os.fsencode(root / "tree" / folder), name)
            if folder == "bad":
                Path(os.fsdecode(to)).write_bytes(b"no image")
            else:
                shutil.copyfile(image, os.fsdecode(to))
    return root / "tree"


def clean(text: str) -> str:
    """The text, once it is known to hold nothing that could move the cursor, or a line that a name has made."""
    assert not any(character in text for character in "\x1b\x9b\u202e")
    assert not any(line.startswith("error: forged") for line in text.splitlines())
    text.encode()
    return text


def paths(text: str) -> set[bytes]:
    """The names in lines of JSON, as the system has them."""
    return {os.path.basename(os.fsencode(json.loads(line)["path"])) for line in text.splitlines()}


@pytest.mark.parametrize("verb", ["predict", "explain"])
def test_each_name_is_printed_and_is_found_again_from_json(
    verb: str, saved: Path, named: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = inside(capsys, verb, saved, named / "test" / "good")
    assert done.returncode == 0, done.stderr
    assert clean(done.stdout).count("score") == len(NAMES)
    assert r"caf\udce9.png" in done.stdout
    assert r"a\nerror: forged.png" in done.stdout
    assert r"\x1b[2K\x1b[1Ared.png" in done.stdout
    assert "[red]x[bold].png" in done.stdout
    as_json = inside(capsys, verb, saved, named / "test" / "good", "--json").stdout
    assert as_json.isascii()
    assert paths(as_json) == set(NAMES)


def test_unreadable_images_are_named_by_every_command(
    saved: Path, named: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for verb in ("predict", "explain"):
        done = inside(capsys, verb, saved, named / "bad")
        assert done.returncode == 3
        assert r"a\nerror: forged.png" in clean(done.stderr)
    refused = inside(capsys, "fit", named / "bad", "-o", named / "m", "--size", 64)
    assert refused.returncode == 1
    assert "cannot be used" in clean(refused.stderr)
    looked = inside(capsys, "check", named / "bad")
    assert looked.returncode == 1
    assert r"caf\udce9.png" in clean(looked.stdout)
    told = inside(capsys, "check", named / "bad", "--json").stdout
    assert told.isascii()
    assert json.loads(told)["findings"]


def test_evaluate_tells_of_such_names_as_json(saved: Path, named: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = inside(capsys, "evaluate", saved, named, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(clean(done.stdout))["images"] == 2 * len(NAMES)


def test_watch_judges_each_once_and_keeps_its_name(
    saved: Path, named: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "line"
    shutil.copytree(named / "test" / "good", folder)
    done = inside(capsys, "watch", saved, folder, "--once", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert clean(done.stdout).count("score") == len(NAMES)
    assert r"\x1b[2K\x1b[1Ared.png" in done.stdout
    assert paths((tmp_path / "out" / "results.jsonl").read_text()) == set(NAMES)
    again = inside(capsys, "watch", saved, folder, "--once", "--out", tmp_path / "out", "--json")
    assert again.stdout == ""


@pytest.mark.parametrize(
    "encoding", [{"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}, {"PYTHONIOENCODING": "cp1252"}]
)
def test_output_never_dies_of_a_character_that_it_cannot_print(
    encoding: dict[str, str], saved: Path, named: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in encoding.items():
        monkeypatch.setitem(ENVIRONMENT, name, value)
    done = blemish("predict", saved, named / "test" / "good", "-v")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("score") == len(NAMES)
    assert r"caf\udce9.png" in done.stdout


@pytest.mark.parametrize(
    "words",
    [
        ("predict", "{m}", LONG),
        ("predict", LONG, "{m}"),
        ("predict", "{m}", "{t}", "--out", LONG),
        ("evaluate", "{m}", LONG, "--json"),
        ("evaluate", "{m}", "{t}", "--report", f"{LONG}.html"),
        ("watch", "{m}", LONG, "--once"),
        ("watch", "{m}", "{t}", "--once", "--out", LONG),
        ("explain", "{m}", LONG),
        ("explain", "{m}", "{t}", "--out", LONG),
        ("check", LONG),
        ("check", "/".join(40 * ["l" * 200])),
        ("fit", LONG, "-o", "m"),
        ("fit", "{t}", "-o", LONG),
        ("fit", "{t}", "-o", "m", "--weights", LONG),
        ("drift", "{m}", f"{LONG}.jsonl"),
        ("drift", "{m}", LONG),
        ("export", "{m}", "-o", LONG, "--format", "openvino"),
    ],
    ids=lambda words: "-".join(words)[:40],
)
def test_a_name_that_is_too_long_for_the_system_is_told_in_one_line(
    words: tuple[str, ...],
    saved: Path,
    named: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    done = inside(capsys, *(word.format(m=saved, t=named / "test" / "good") for word in words))
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "an error in blemish" not in done.stderr
    assert list(tmp_path.iterdir()) == []
