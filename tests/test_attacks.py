"""Attacks on the command: each ends in one sentence that says what is wrong, and in nothing written."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from blemish.storage.cards import digest_of
from command import FAULTS, inside

SETTINGS = [
    ("padim", "dims=1.5", "padim: dims is 1.5; expected a whole number from 1 to 65,536"),
    ("padim", "dims=true", "padim: dims is True; expected a whole number"),
    ("padim", "dims=1e400", "padim: dims is inf; expected a whole number"),
    ("padim", "dims=nan", "padim: dims is 'nan'; expected a whole number"),
    ("padim", "dims=many", "padim: dims is 'many'; expected a whole number"),
    ("padim", "dims=[1]", "padim: dims is [1]; expected a whole number"),
    ("padim", f"dims={'9' * 30}", "expected a whole number from 1 to 65,536"),
    ("padim", f"dims={'9' * 5000}", "padim: dims is '999"),
    ("padim", f"dims={'[' * 100_000}", "padim: dims is '[[["),
    ("padim", "epsilon=Infinity", "padim: epsilon is inf; expected a number from 1e-12"),
    ("padim", "epsilon=NaN", "padim: epsilon is nan; expected a number"),
    ("padim", "epsilon=1e-320", "padim: epsilon is 1e-320; expected a number"),
    ("padim", "seed=1.5", "padim: seed is 1.5; expected a whole number from 0 to 4,294,967,295"),
    ("padim", "seed=-1", "padim: seed is -1; expected a whole number"),
    ("padim", "seed=x", "padim: seed is 'x'; expected a whole number"),
    ("padim", "reduction=7", "padim: reduction is 7; expected random, pca or all"),
    ("padim", "smoothing=null", "padim: smoothing is None; expected a number from 0 to 100"),
    ("padim", "interpolation=[]", "padim: interpolation is []; expected nearest, bilinear or bicubic"),
    ("padim", "dimms=3", "padim has no setting 'dimms'"),
    ("gaussian", "drop=Infinity", "gaussian: drop is inf; expected for each layer a list of components"),
    ("gaussian", "drop=[1,2]", "gaussian: drop[0] is 1; expected a list"),
    ("gaussian", "drop=[[-1]]", "gaussian: drop[0][0] is -1; expected a whole number"),
    ("gaussian", "rtol=1", "gaussian: rtol is 1; expected float64 or float32, or a number from 0 and below 1"),
    ("fre", "weights=Infinity", "fre: weights is inf; expected a list of 1 to 64 values"),
    ("fre", "weights=[1,Infinity,1]", "fre: weights[1] is inf; expected a number from 0 to 1,000,000"),
    ("fre", "weights=[0,0,0]", "fre: weights are all 0"),
    ("fre", "variance=None", "fre: variance is 'None'; expected a number above 0 and below 1, or null"),
    ("fre", "shared=1", "fre: shared is 1; expected true or false"),
    ("fre-ae", "directions=0", "fre-ae: directions is 0; expected a whole number from 1"),
    ("spade", "neighbours=1e30", "spade: neighbours is 1e+30; expected a whole number from 1 to 1,000,000"),
    ("hfr", "epochs=1.5", "hfr: epochs is 1.5; expected a whole number from 1 to 1,000,000"),
    ("hfr", 'epochs="2"', "hfr: epochs is '2'; expected a whole number"),
    ("hfr", "epochs=Infinity", "hfr: epochs is inf; expected a whole number"),
    ("hfr", "batch=1.5", "hfr: batch is 1.5; expected a whole number"),
    ("hfr", "drawn=1000000000000", "hfr: drawn is 1000000000000; expected a whole number from 1 to 1,000,000,000"),
    ("hfr", "minutes=inf", "hfr: minutes is 'inf'; expected a number above 0"),
    ("hfr", "width=0", "hfr: width is 0; expected a number above 0 and up to 16"),
    ("vae", "window=10", "vae: window is 10; expected an odd number from 3 to 255"),
    ("vae", "stride=9", "vae: stride is 9; expected 8, 16 or 32"),
    ("vae-grf", "longest_range=0", "vae-grf: longest_range is 0; expected a number above 0.1"),
]


def ends_in_a_sentence(
    capsys: pytest.CaptureFixture[str], folder: Path, words: list[object], said: str, status: int = 1
) -> None:
    """Runs the command, which refuses and leaves the folder as it was."""
    before = {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}
    done = inside(capsys, *words)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert said in line
    assert done.stderr.rstrip().endswith(line)
    assert done.returncode == status
    assert not [words for words in FAULTS if words in done.stderr + done.stdout]
    assert {path: path.lstat().st_mtime_ns for path in folder.rglob("*")} == before


@pytest.mark.parametrize(("detector", "setting", "said"), SETTINGS, ids=[f"{d}-{s[:24]}" for d, s, _ in SETTINGS])
def test_a_setting_that_cannot_be_is_named_with_what_can(
    capsys: pytest.CaptureFixture[str], tree: Path, tmp_path: Path, detector: str, setting: str, said: str
) -> None:
    words = ["fit", tree, "-o", tmp_path / "m", "--detector", detector, "--set", setting]
    ends_in_a_sentence(capsys, tmp_path, words, said, status=2)


OPTIONS: list[tuple[list[object], str]] = [
    (["--size", "9" * 30], "size"),
    (["--size", "-64"], "size"),
    (["--size", "64x"], "not a size"),
    (["--size", "1e3"], "not a size"),
    (["--crop", "9" * 30], "crop"),
    (["--crop", "1.5"], "--crop"),
    (["--tile", "9" * 30], "tile"),
    (["--tile", "64", "--overlap", "-1"], "overlap"),
    (["--layers", "9" * 5000], "layer"),
    (["--seed", "9" * 30], "seed"),
    (["--seed", "-1"], "--seed"),
    (["--folds", "-1"], "folds"),
    (["--memory", "nan"], "memory"),
    (["--memory", "-1"], "memory"),
    (["--memory", "inf"], "memory"),
    (["--processes", "9" * 30], "processes"),
    (["--false-alarm-rate", "nan"], "rate"),
    (["--false-alarm-rate", "inf"], "rate"),
    (["--box-rate", "-0.1"], "rate"),
    (["--calibration-share", "nan"], "share"),
    (["--backbone", "x" * 5000], "backbone"),
    (["--preset", "../../etc"], "no preset"),
    (["--engine", "cuda:99"], "engine"),
    (["--set", "=3"], "give NAME=VALUE"),
    (["--weights", "/dev/zero"], "/dev/zero"),
    (["--nothing"], "unknown option"),
]


@pytest.mark.parametrize(("words", "said"), OPTIONS, ids=[" ".join(map(str, w))[:32] for w, _ in OPTIONS])
def test_an_option_that_cannot_be_is_named(
    capsys: pytest.CaptureFixture[str], tree: Path, tmp_path: Path, words: list[object], said: str
) -> None:
    ends_in_a_sentence(
        capsys, tmp_path, ["fit", tree, "-o", tmp_path / "m", *words], said, status=1 if "--weights" in words else 2
    )


Card = dict[str, Any]


def card(**changed: object) -> Callable[[Path], None]:
    """Returns what changes fields of a card, named with `__` for a field within another, and signs it again."""

    def change(folder: Path) -> None:
        found: Card = json.loads((folder / "model.json").read_text())
        for name, value in changed.items():
            *ways, last = name.split("__")
            at = found
            for way in ways:
                at = at[way]
            at[last] = value
        found.pop("digest")
        (folder / "model.json").write_text(json.dumps({**found, "digest": digest_of(found)}))

    return change


def text(content: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "model.json").write_text(content)


def linked(name: str, target: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to(target)

    return change


def piped(folder: Path) -> None:
    (folder / "scoring.xml").unlink()
    os.mkfifo(folder / "scoring.xml")


LEARNED = {"learned.safetensors": "0" * 64, "inside.safetensors": "0" * 64}

MODELS: list[tuple[str, Callable[[Path], object], str]] = [
    ("an empty card", text(""), "is not JSON"),
    ("half a card", text('{"format": 6, "ki'), "is not JSON"),
    ("a list", text("[]"), "cannot be read"),
    ("bytes", lambda folder: (folder / "model.json").write_bytes(b"\xff\xfe\x00"), "is not a text in UTF-8"),
    ("depth", text('{"format": ' + "[" * 100_000), "lists and objects within one another"),
    ("depth that closes", text('{"format": 6, "x": ' + "[" * 90 + "]" * 90 + "}"), "more than 64 lists and objects"),
    ("5,000 digits", text('{"format": ' + "9" * 5000 + "}"), "a number of thousands of digits"),
    ("NaN", text('{"format": NaN}'), "NaN is not a number"),
    ("a format of text", card(format="6"), "has format '6'"),
    ("a format of true", card(format=True), "has format True"),
    ("another kind", card(kind=["model"]), "holds ['model']"),
    ("another digest", text('{"format": 6, "digest": 7}'), "was altered"),
    ("a rate of text", card(calibration__rate="x"), "calibration.rate is 'x'; expected a number from 0 to 1"),
    ("nested scores", card(calibration__scores=[[1]]), "calibration.scores[0] is [1]; expected a finite number"),
    ("a display of text", card(calibration__display=["a", "b"]), "calibration.display[0] is 'a'; expected a finite"),
    ("other sizes", card(recipe__geometry__height=96), "do not fit its model.json"),
    ("no sizes", card(recipe__geometry={}), "recipe.geometry has no height; expected an object with crop"),
    ("deep settings", card(recipe__settings={"a": [[[[[[1]]]]]]}), "nested up to"),
    ("a device", card(files={"/dev/zero": "0" * 64}), "not a plain name"),
    ("a way out", card(files={"../model.json": "0" * 64}), "not a plain name"),
    ("files of a list", card(files=["scoring.xml"]), "lists no files"),
    ("no graphs", card(files=LEARNED), "was altered or cut short"),
    ("a link out", linked("scoring.bin", "/dev/zero"), "is a link that leads out of the folder"),
    ("a link to itself", linked("scoring.bin", "scoring.bin"), "cannot be read"),
    ("a pipe", piped, "is not a file"),
    ("a huge file", lambda folder: os.truncate(folder / "scoring.bin", 1 << 40), "more than any file of blemish's"),
    ("a huge card", lambda folder: os.truncate(folder / "model.json", 1 << 40), "more than"),
    ("a cut file", lambda folder: os.truncate(folder / "scoring.bin", 100), "was altered or cut short"),
    ("no file", lambda folder: (folder / "scoring.bin").unlink(), "is incomplete, scoring.bin is missing"),
]


@pytest.mark.parametrize(("change", "said"), [row[1:] for row in MODELS], ids=[row[0] for row in MODELS])
def test_a_model_that_was_tampered_with_is_refused(
    capsys: pytest.CaptureFixture[str],
    small: Path,
    tree: Path,
    tmp_path: Path,
    change: Callable[[Path], object],
    said: str,
) -> None:
    change(Path(shutil.copytree(small, tmp_path / "m")))
    ends_in_a_sentence(capsys, tmp_path, ["predict", tmp_path / "m", tree / "test" / "good" / "000.png"], said)


DEEP = "[" * 100_000

FILES: list[tuple[list[object], str, str]] = [
    (["bench", "table", "padim-table-1", "FILE"], DEEP, "is not a result of `blemish bench run`"),
    (["bench", "table", "padim-table-1", "FILE"], "7\n", "is not a result of `blemish bench run`"),
    (["bench", "table", "padim-table-1", "FILE"], '{"protocol": 7}\n', "is not a result of `blemish bench run`"),
    (["drift", "MODEL", "FILE"], DEEP, "is not a prediction"),
    (["drift", "MODEL", "FILE"], '{"score": "x"}\n', "is not a prediction"),
    (["drift", "MODEL", "FILE"], '{"score": ' + "9" * 5000 + "}\n", "is not a prediction"),
    (["fit", "coco:FILE", "-o", "OUT"], DEEP, "lists and objects within one another"),
    (["fit", "coco:FILE", "-o", "OUT"], '{"categories": 7}', "categories"),
]


@pytest.mark.parametrize(("words", "content", "said"), FILES, ids=[f"{w[0]}-{c[:16]!r}" for w, c, _ in FILES])
def test_a_file_that_is_not_what_it_should_be_is_refused(
    capsys: pytest.CaptureFixture[str], small: Path, tmp_path: Path, words: list[object], content: str, said: str
) -> None:
    file = tmp_path / "file.jsonl"
    file.write_text(content)
    names = {"FILE": file, "MODEL": small, "OUT": tmp_path / "out"}
    filled = [names.get(str(word), str(word).replace("FILE", str(file))) for word in words]
    ends_in_a_sentence(capsys, tmp_path, filled, said)
