"""The command as a user meets it: in a process of its own, with what it prints and its exit status."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
from PIL import Image
from safetensors.torch import save_file

import blemish as blemish_module
from bad_images import bad_files
from blemish.cli.console import Piped, looking_anomalous
from command import ENVIRONMENT, blemish, inside
from conftest import unprivileged, write_parts, write_tree


def one_line_error(done: subprocess.CompletedProcess[str], status: int | None = None) -> str:
    """The error that was printed, once it is known to be one line without a traceback; status 2 is of a wrong value."""
    assert done.returncode in ({1, 2} if status is None else {status}), done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1] == errors[0]
    return errors[0]


@pytest.fixture(scope="module")
def fitted(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "parts.blemish"
    done = blemish("fit", tree, "-o", path, "--size", 64, "--json")
    assert done.returncode == 0, done.stderr
    assert "MVTec-style tree, 24 to train, 10 to test (5 good, 5 scratch)" in done.stderr
    told = json.loads(done.stdout)
    assert told["model"] == str(path)
    assert told["images"] == 24
    assert (told["calibration"], told["folds"], told["scores"]) == ("cross", 24, 24)
    assert told["false_alarm_rate"] == pytest.approx(1 / 25)
    return path


def test_fit_says_that_the_default_rate_gave_way(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = inside(capsys, "fit", tree, "-o", tmp_path / "m", "--size", 64, "--detector", "gaussian")
    assert done.returncode == 0, done.stderr
    assert "for a false-alarm rate of at most 4 %" in done.stdout
    assert re.search(
        r"each scored by a model that learned from the other 23 of 24 folds; the threshold is the score of \S+png",
        done.stdout,
    )
    assert "(1 %, the default, needs 99 images to calibrate on)" in done.stdout


def test_predict_prints_one_line_of_json_an_image(fitted: Path, tree: Path) -> None:
    done = blemish("predict", fitted, tree / "test", "--json")
    assert done.returncode == 0
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == 10
    for line in lines:
        verdict = {"is_anomaly", "threshold", "false_alarm_rate", "is_known"}
        assert set(line) == {"path", "score", "p_value", "boxes"} | verdict
        assert line["boxes"] or not line["is_anomaly"]
        assert line["is_anomaly"] == ("scratch" in line["path"])


def test_any_rate_or_threshold_can_be_asked_for_without_a_fit(
    fitted: Path, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def lines(verb: str, *words: object) -> list[dict[str, Any]]:
        done = inside(capsys, verb, fitted, tree, *words, "--json")
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    for verb in ("predict", "explain"):
        for line in lines(verb, "--threshold", "1e9", "--box-rate", "0.95"):
            assert not line["is_anomaly"]
            assert line["boxes"]
            assert line["threshold"] == 1e9
            assert line["false_alarm_rate"] == pytest.approx(1 / 25)
        assert {line["false_alarm_rate"] for line in lines(verb, "--false-alarm-rate", "0.5")} == {0.5}
    (told,) = lines("evaluate", "--false-alarm-rate", "0.5", "--box-rate", "0.3")
    assert (told["decisions"]["stated_rate"], told["boxes"]["box_rate"]) == (0.5, 0.3)
    for_people = inside(capsys, "predict", fitted, tree, "--threshold", "1e9")
    assert "threshold 1e+09, as given, with a false-alarm rate of at most 4 %; boxes above" in for_people.stderr
    assert re.search(r"good +score \S+  p \S+  +\d+ box(es)?  ", for_people.stdout)
    nothing = inside(capsys, "evaluate", fitted, tree, "--threshold", "-5")
    assert "as given, below all scores of good images" in nothing.stdout
    assert re.search(r"stated rate +threshold +false alarms +detected\n +5 %", nothing.stdout)
    assert "boxes (IoU ≥ 0.3): " in nothing.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes there")
def test_a_name_that_no_encoding_has_is_printed_all_the_same(
    fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENVIRONMENT, "PYTHONIOENCODING", "utf-8:strict")
    name = os.fsdecode(b"caf\xe9.png")
    (write_parts(tmp_path / "new", 1) / "000.png").rename(tmp_path / "new" / name)
    done = blemish("predict", fitted, tmp_path / "new")
    assert done.returncode == 0, done.stderr
    assert r"caf\udce9.png" in done.stdout


def test_predict_goes_on_after_an_unreadable_image_and_ends_with_status_3(
    fitted: Path, tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.png").write_bytes(b"x")
    done = inside(capsys, "predict", fitted, tmp_path / "bad.png", tree / "test" / "good", "--json")
    assert done.returncode == 3
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert set(lines[0]) == {"path", "error"}
    assert len(lines) == 6
    for_people = inside(capsys, "predict", fitted, tmp_path / "bad.png", tree / "test" / "good")
    assert for_people.returncode == 3
    assert for_people.stdout.count("good") >= 5
    assert "bad.png" in for_people.stderr


@pytest.mark.parametrize(("maps", "count"), [("overlay", 10), ("heat", 10), ("npy", 10), ("none", 0)])
def test_predict_writes_results_and_maps_into_a_new_folder(
    fitted: Path, tree: Path, tmp_path: Path, maps: str, count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "results"
    assert inside(capsys, "predict", fitted, tree / "test", "--out", out, "--maps", maps).returncode == 0
    lines = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert len(lines) == 10
    names = [line["map"] for line in lines if "map" in line]
    assert len(set(names)) == count, "two folders have images of the same names"
    for name in names:
        assert (out / name).parent.parent == out / "maps", "in the folders of the source"
        values = np.load(out / name) if maps == "npy" else np.asarray(Image.open(out / name))
        assert values.shape == {"npy": (64, 64), "heat": (64, 64, 3), "overlay": (96, 96, 3)}[maps]
    assert "--force" in one_line_error(inside(capsys, "predict", fitted, tree / "test", "--out", out))
    assert inside(capsys, "predict", fitted, tree / "test", "--out", out, "--force").returncode == 0


def test_evaluate_prints_one_object_and_writes_a_report(
    fitted: Path, tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "report.html"
    done = blemish("evaluate", fitted, tree, "--json", "--report", page, "--images", tmp_path / "images.csv")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert len((tmp_path / "images.csv").read_text().splitlines()) == 1 + told["images"]
    assert {"auroc", "aupr", "f1_max"} <= set(told["image"])
    assert set(told["pixel"]) == {"auroc", "aupr", "f1_max", "aupro", "auroc_per_image", "aupimo"}
    assert {"threshold", "false_alarm_rate", "detection_rate"} <= set(told["decisions"])
    assert set(told["per_class"]) == {"scratch"}
    assert told["seconds_per_image"] > 0
    assert "<svg" in page.read_text()
    for_people = inside(capsys, "evaluate", fitted, tree)
    assert for_people.returncode == 0
    assert "scratch" in for_people.stdout
    assert "AUPIMO" in for_people.stdout
    again = inside(capsys, "evaluate", fitted, tree, "--images", tmp_path / "images.csv")
    assert "--force" in one_line_error(again)
    assert "--force" in one_line_error(inside(capsys, "evaluate", fitted, tree, "--report", page))


def without(module: str, *commands: tuple[object, ...]) -> list[subprocess.CompletedProcess[str]]:
    """Commands in one process, where a module is not installed, and where nothing can be scored or fitted."""
    program = (
        "import contextlib, io, json, sys\n"
        f"sys.modules[{module!r}] = None\n"
        "import blemish.fitting, blemish.model\n"
        "from blemish.cli import main\n"
        "def refuse(*_, **__): raise AssertionError('it was asked too late')\n"
        "blemish.model.judging.stream = blemish.fitting.passes.stream = refuse\n"
        f"for words in {[['blemish', *map(str, words)] for words in commands]!r}:\n"
        "    sys.argv, code = words, None\n"
        "    with contextlib.redirect_stderr(io.StringIO()) as errors:\n"
        "        try:\n"
        "            main()\n"
        "        except SystemExit as left:\n"
        "            code = left.code\n"
        "    print(json.dumps([code, errors.getvalue()]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=ENVIRONMENT, check=True)
    told = map(json.loads, done.stdout.splitlines())
    return [subprocess.CompletedProcess(program, status, "", errors) for status, errors in told]


def test_what_is_not_installed_is_asked_for_before_any_image_is_scored(
    fitted: Path, gaussian: Path, tree: Path, tmp_path: Path
) -> None:
    page = tmp_path / "r.html"
    commands: dict[tuple[object, ...], str] = {
        ("evaluate", fitted, tree, "--report", page): "evaluate needs jinja2",
        ("demo", "--report", page): "demo needs jinja2",
        ("compare", tree, "--report", page): "compare needs jinja2",
        ("explain", gaussian, "--gallery", tree, "--out", tmp_path / "g"): "explain needs jinja2",
    }
    for expected, done in zip(commands.values(), without("jinja2", *commands), strict=True):
        told = f"error: {expected}; pip install 'blemish[report]', or '.[report]' in a clone"
        assert one_line_error(done) == told, expected


def test_a_report_that_cannot_be_written_is_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("no folder")
    cases = {
        tmp_path: "is a folder; give the name of a file in it",
        tmp_path / "file" / "r.html": "file is not a folder, so nothing can be written there",
        tmp_path / "file" / "deeper" / "r.html": "file is not a folder, so nothing can be written there",
        tmp_path / f"{'r' * 300}.html": "may not be written to (File name too long)",
        tmp_path / "none" / ("d" * 300) / "r.html": "may not be written to (File name too long)",
    }
    if os.name == "posix":
        (tmp_path / "link").symlink_to("gone")
        cases[tmp_path / "link" / "r.html"] = "link is not a folder"
    if sys.platform == "linux":
        cases[Path("/proc/r.html")] = "may not be written to ("
        cases[Path("/proc/none/r.html")] = "may not be written to ("
    before = set(tmp_path.iterdir())
    for path, expected in cases.items():
        for words in (("demo",), ("demo", "--force"), ("evaluate", "no-model", "no-data")):
            error = one_line_error(inside(capsys, *words, "--report", path))
            assert f"{path}: " in error
            assert expected in error
        assert expected in one_line_error(inside(capsys, "sample", "no-model", "-o", path))
    assert set(tmp_path.iterdir()) == before, "nothing is left"


@pytest.mark.skipif(os.name == "nt", reason="permissions are POSIX's")
def test_a_folder_without_leave_to_write_is_refused_at_once(
    open_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (open_path / "locked").mkdir()
    with unprivileged(open_path / "locked"):
        error = one_line_error(
            inside(capsys, "evaluate", "no-model", "no-data", "--report", open_path / "locked/r.html")
        )
    assert error.endswith("locked may not be written to (Permission denied); give another path")


def test_a_report_goes_into_a_folder_that_is_not_there_yet(
    fitted: Path, tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "new" / "deeper" / "r.html"
    assert inside(capsys, "evaluate", fitted, tree, "--report", page).returncode == 0
    assert [path.name for path in page.parent.iterdir()] == ["r.html"]


def test_evaluate_needs_neither_scipy_nor_torch(saved: Path, tree: Path) -> None:
    program = (
        "import sys\n"
        "sys.modules['scipy'] = sys.modules['torch'] = sys.modules['timm'] = None\n"
        "import blemish\n"
        f"model = blemish.load({str(saved)!r})\n"
        f"found = blemish.evaluate(model, {str(tree)!r})\n"
        "assert len(found.results) == 10 and found.pixel['aupro'] > 0 and found.decisions['false_alarms_by_chance']\n"
        "assert found.intervals.keys()\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_evaluate_with_a_report_needs_no_torch(saved: Path, tree: Path, tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "class Without:\n"  # None in sys.modules would not do: scipy looks there whether torch is in use
        "    def __init__(self, finder): self.finder = finder\n"
        "    def __getattr__(self, name): return getattr(self.finder, name)\n"
        "    def find_spec(self, name, *rest):\n"
        "        return None if name in ('torch', 'timm') else self.finder.find_spec(name, *rest)\n"
        "sys.meta_path[:] = map(Without, sys.meta_path)\n"
        "from blemish.cli import main\n"
        f"sys.argv = ['blemish', 'evaluate', {str(saved)!r}, {str(tree)!r}, '--report', {str(tmp_path / 'r.html')!r}]\n"
        "main()\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    assert (tmp_path / "r.html").is_file()


def test_predict_loads_nothing_that_a_verdict_does_not_need(saved: Path, tree: Path) -> None:
    program = (
        "import sys\n"
        "from blemish.cli import main\n"
        f"sys.argv = ['blemish', 'predict', {str(saved)!r}, {str(tree / 'test/good/000.png')!r}]\n"
        "try:\n"
        "    main()\n"
        "except SystemExit as left:\n"
        "    assert not left.code\n"
        "rooms = ('fitting', 'evaluation', 'report', 'components', 'distributed', 'training')\n"
        "rooms = {f'blemish.{room}' for room in rooms}\n"
        "others = {'torch', 'timm', 'scipy', 'fsspec', 'jinja2', 'multiprocessing', 'asyncio', 'sqlite3'}\n"
        "assert not (rooms | others) & set(sys.modules), (rooms | others) & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_calibrate_replaces_the_model_or_writes_another_without_torch(
    saved: Path, tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = write_parts(tmp_path / "good", 19, seed=30)
    program = (
        "import sys\n"
        "sys.modules['torch'] = sys.modules['timm'] = None\n"
        "from blemish.cli import main\n"
        f"sys.argv = ['blemish', 'calibrate', {str(saved)!r}, {str(good)!r}, '-o', {str(tmp_path / 'm')!r}]\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert lines[0] == "calibrated on 19 images"
    assert lines[1].startswith("before: threshold ")
    assert re.fullmatch(r"now: threshold \S+, for a false-alarm rate of at most 5 %; boxes above .* 10 % .*", lines[2])
    assert "warning" not in done.stderr
    before = blemish_module.load(str(tmp_path / "m"))
    assert before.calibration.rate == 0.05
    told = inside(capsys, "calibrate", tmp_path / "m", tree, "--false-alarm-rate", "0.5", "--json")
    assert told.returncode == 0, told.stderr
    assert "warning: the model was fitted on 24 of these 24 images" in told.stderr
    replaced = blemish_module.load(str(tmp_path / "m"))
    found = json.loads(told.stdout)
    assert (found["images"], found["seen"], found["false_alarm_rate_before"]) == (24, 24, 0.05)
    assert (found["threshold"], found["threshold_before"]) == (replaced.threshold, before.threshold)
    assert [former.images for former in replaced.provenance.history] == [24, 19]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["good", "m"], "no temporary folder is left"


def test_figures_that_are_undefined_are_null(
    fitted: Path, tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_tree(tmp_path / "t", 2, 3)
    for path in (root / "test" / "good").iterdir():
        path.unlink()
    told = json.loads(inside(capsys, "evaluate", fitted, root, "--json").stdout)
    assert told["image"]["auroc"] is None
    assert told["decisions"]["false_alarm_rate"] is None
    assert told["decisions"]["detection_rate"] == 1.0
    assert told["pixel"]["auroc"] > 0.9
    (root / "ground_truth").rename(tmp_path / "elsewhere")
    told = json.loads(inside(capsys, "evaluate", fitted, root, "--json").stdout)
    assert set(told["pixel"].values()) == {None}


def test_a_fit_that_is_stopped_by_bad_images_names_them_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_parts(tmp_path / "parts", 8)
    files = bad_files(tmp_path / "parts")
    out = tmp_path / "m"
    error = one_line_error(inside(capsys, "fit", tmp_path / "parts", "-o", out, "--size", 64))
    for kind in ("truncated", "empty", "mislabelled", "bomb", "truncated jpeg", "just too large", "floats"):
        assert files[kind].name in error, kind
    assert "--skip-bad" in error
    assert not out.exists()
    done = inside(capsys, "fit", tmp_path / "parts", "-o", out, "--size", 64, "--skip-bad", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["skipped"] == 8
    assert json.loads((out / "model.json").read_text())["provenance"]["skipped"] == 8


@pytest.mark.skipif(os.name == "nt", reason="links are POSIX's")
def test_a_link_that_leads_nowhere_stops_a_fit_and_is_an_error_of_a_prediction(
    fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_parts(tmp_path / "parts", 6)
    (tmp_path / "parts" / "gone.png").symlink_to("nowhere.png")
    words = ("fit", tmp_path / "parts", "-o", tmp_path / "m", "--size", 64)
    assert "gone.png is a broken link" in one_line_error(inside(capsys, *words))
    assert inside(capsys, *words, "--skip-bad").returncode == 0
    done = inside(capsys, "predict", fitted, tmp_path / "parts", "--json")
    assert done.returncode == 3
    assert "is a broken link" in json.loads(done.stdout.splitlines()[-1])["error"]


def test_every_mistake_of_a_user_is_one_line_with_status_1_or_2(
    fitted: Path, tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    write_parts(tmp_path / "one", 1)
    (tmp_path / "weights.pth").write_text("x")
    save_file(timm.create_model("resnet18").state_dict(), tmp_path / "other.safetensors")
    root = write_tree(tmp_path / "t", 3, 2)
    Image.new("L", (50, 40), 255).save(root / "ground_truth" / "scratch" / "000_mask.png")
    out = tmp_path / "m"
    cases = {
        ("fit", tmp_path / "empty", "-o", out): "no images",
        ("fit", tmp_path / "none", "-o", out): "no such file or folder",
        ("fit", "", "-o", out): "empty text",
        ("fit", tree, "-o", tree / "train" / "good" / "000.png" / "m"): "000.png is not a folder",
        ("fit", tmp_path / "one", "-o", out): "at least 2",
        ("fit", tree, "-o", fitted): "--force",
        ("fit", tree, "-o", tmp_path, "--force"): "holds no model.json",
        ("fit", tree, "-o", out, "--detector", "patchcore"): "fre, fre-ae, padim, gaussian",
        ("fit", tree, "-o", out, "--backbone", "resnet18"): "--weights PATH",
        ("fit", tree, "-o", out, "--backbone", "lenet"): "no backbone is called",
        ("fit", tree, "-o", out, "--weights", tmp_path / "weights.pth"): "weights.pth",
        ("fit", tree, "-o", out, "--weights", tmp_path / "none.pth"): "no such weights file",
        ("fit", tree, "-o", out, "--weights", tmp_path / "other.safetensors"): "are they another network's?",
        ("fit", tree, "-o", out, "--layers", "2,9"): "no layer 9",
        ("fit", tree, "-o", out, "--layers", "conv99"): "no layer 'conv99'",
        ("fit", tree, "-o", out, "--layers", ","): "no layers",
        ("fit", tree, "-o", out, "--size", "8"): "size 8",
        ("fit", tree, "-o", out, "--size", "big"): "not a size",
        ("fit", tree, "-o", out, "--size", "64", "--crop", "80"): "crop 80",
        ("fit", tree, "-o", out, "--preset", "padim-r34"): "no preset",
        ("fit", tree, "-o", out, "--quality", "better"): "give one of fast, balanced, best",
        ("fit", tree, "-o", out, "--quality", "best", "--preset", "fre-lite0-1l"): "leave out --quality or --preset",
        ("compare", tree, "--quality", "fast,better"): "give one of fast, balanced, best",
        ("compare", tree, "--detector", "patchcore"): "fre, fre-ae, padim, gaussian",
        ("compare", tree, "--quality", ","): "there is nothing to compare",
        ("compare", tree, "--false-alarm-rate", "0.001"): "needs 999 good images",
        ("compare", tmp_path / "empty"): "no images",
        ("fit", tree, "-o", out, "--false-alarm-rate", "0.001"): "999 good images",
        ("fit", tree, "-o", out, "--false-alarm-rate", "2"): "above 0 and below 1",
        ("fit", tree, "-o", out, "--calibration-share", "0.9"): "share",
        ("fit", tree, "-o", out, "--engine", "tpu"): "no engine",
        ("fit", tree, "-o", out, "--box-rate", "0.001"): "24 good images cannot promise a box rate of 0.001",
        ("predict", fitted, tree, "--false-alarm-rate", "0.01"): "a false-alarm rate of 0.01, only 0.04 or more",
        ("evaluate", fitted, tree, "--box-rate", "0.01"): "a box rate of 0.01, only 0.04 or more",
        ("explain", fitted, tree, "--box-rate", "1"): "above 0 and below 1",
        ("predict", fitted, tree, "--false-alarm-rate", "0.1", "--threshold", "3"): "give one",
        ("evaluate", fitted, tree, "--threshold", "nan"): "not a finite number",
        ("calibrate", fitted, tree, "--false-alarm-rate", "0.01"): "a false-alarm rate of 0.01, only 0.04 or more",
        ("calibrate", fitted, tree, "-o", fitted): "--force",
        ("calibrate", fitted, tmp_path / "empty"): "no images",
        ("predict", tmp_path / "none", tree): "no such model",
        ("predict", tree, tree): "not a saved model",
        ("predict", fitted, tmp_path / "empty"): "no images",
        ("predict", fitted, tree, "--maps", "heat"): "--out",
        ("evaluate", fitted, tree / "train" / "good"): "give a tree with test/good and test/<defect> folders",
        (
            "evaluate",
            fitted,
            tree / "test",
        ): "no labelled images to evaluate on (plain folder); give the folder above",
        ("evaluate", fitted, root): "the mask is 40x50 and its image 000.png is 96x96",
        ("explain", fitted): "give images to explain",
        ("explain", fitted, tree, "--figures", tree): "give images to explain",
        ("explain", fitted, "--gallery", tree): "--out DIR",
        ("explain", fitted, tmp_path / "none.png"): "no such file or folder",
        ("explain", fitted, tree, "--components", "12"): "explains by layers (2, 3, 4)",
        ("explain", fitted, "--diagnoses", tree): "detector gaussian, but the model's detector is fre",
        (
            "explain",
            fitted,
            "--figures",
            tree / "train" / "good",
            "--out",
            tmp_path / "f",
        ): "no labelled anomalous images",
        ("explain", fitted, tree, "--scale", "loud", "--out", tmp_path / "f"): "'loud' is not known",
        ("prune", fitted, "--drop", "0", "-o", out): "detector gaussian, but the model's detector is fre",
        ("prune", fitted, "--drop", "0", "-o", fitted): "exists already",
        ("fit", tree, "-o", out, "--detector", "vae", "--size", "60x60"): "multiple of 8",
        ("fit", tree, "-o", out, "--detector", "vae", "--map", "loud"): "map is 'loud'; expected mad, sm",
        ("fit", tree, "-o", out, "--map", "mad"): "fre has no setting 'map'",
        ("fit", tree, "-o", out, "--set", "variance"): "give NAME=VALUE",
        (
            "fit",
            tree,
            "-o",
            out,
            "--set",
            "variance=most",
        ): "fre: variance is 'most'; expected a number above 0 and below 1, or null",
        ("fit", tree, "-o", out, "--set", "variance=7"): "fre: variance is 7; expected a number",
        ("fit", tree, "-o", out, "--detector", "vae", "--resume"): "give --checkpoints DIR",
        ("fit", tree, "-o", out, "--checkpoints", tmp_path / "kept"): "fre learns in one pass without checkpoints",
        ("fit", tree, "-o", out, "--processes", "2"): "fre learns in one pass, which uses one process",
        ("fit", tree, "-o", out, "--detector", "hfr", "--processes", "9"): "processes 9 is out of range; give 1 to 8",
        ("sample", fitted, "-o", tmp_path / "grid.png"): "fre has no prior to draw images from",
        ("fit", tree, "-o", out, "--method", "ica"): "fre-ae: method is 'ica'; expected ae or tied",
        ("fit", tree, "-o", out, "--method", "ae", "--detector", "padim"): "not for padim",
        ("check", tmp_path / "none"): "no such file or folder",
    }
    for words, expected in cases.items():
        assert expected in one_line_error(inside(capsys, *words)), words
    assert not out.exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")], "no temporary folder is left"


@pytest.mark.parametrize("words", [["fit"], ["fit", "x", "-o", "y", "--sizee", "3"], ["predict", "m"], ["train"]])
def test_words_the_command_does_not_know_are_one_line_with_status_2(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert "--help" in one_line_error(inside(capsys, *words), 2)


def test_a_group_without_a_command_shows_its_commands_and_says_what_is_missing() -> None:
    done = blemish("bench")
    assert "figure" in done.stdout + done.stderr
    assert one_line_error(done, 2) == "error: No command was given. See blemish bench --help"


def test_debug_shows_the_traceback() -> None:
    done = blemish("fit", "/none", "-o", "/none/m", "--debug")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


@pytest.mark.parametrize(
    "verb",
    [
        "fit",
        "calibrate",
        "compare",
        "predict",
        "evaluate",
        "explain",
        "sample",
        "prune",
        "check",
        "demo",
        "drift",
        "info",
        "serve",
    ],
)
def test_every_verb_has_help_with_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    done = inside(capsys, verb, "--help")
    assert done.returncode == 0
    assert f"Example: blemish {verb}" in done.stdout


@pytest.fixture(scope="module")
def gaussian(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "gaussian.blemish"
    blemish_module.fit(tree, detector="gaussian", size=64, layers=[1, 2]).save(path)
    return path


def test_info_tells_what_a_model_is_and_what_it_learned(
    gaussian: Path, tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    updated = tmp_path / "updated"
    model = blemish_module.load(gaussian).update(tree / "test" / "good")
    model.save(updated)
    shown = inside(capsys, "info", updated).stdout.splitlines()
    assert shown[0] == "gaussian on tf_efficientnet_lite0, layers 1, 2"
    assert f"has learned from {len(model.inside)} good images" in shown
    assert any(line.endswith(f"update: 5 images, {tree / 'test' / 'good'}") for line in shown)
    told = json.loads(inside(capsys, "info", updated, "--json").stdout)
    assert (told["inside"], told["threshold"]) == (len(model.inside), model.threshold)
    assert [change["kind"] for change in told["changes"]] == ["fit", "update"]
    assert json.loads((updated / "model.json").read_text())["digest"] == told["digest"]
    assert shown[-1] == f"digest: {told['digest']}"


def test_one_layer_is_told_as_one_and_no_layer_is_not_told(gaussian: Path) -> None:
    recipe = blemish_module.load(gaussian).recipe
    assert replace(recipe, layers=(3,)).backbone_and_layers == "tf_efficientnet_lite0, layer 3"
    assert replace(recipe, backbone="pixels", layers=()).backbone_and_layers == "pixels"


def test_explain_says_what_each_layer_and_component_adds(
    gaussian: Path, tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = tree / "test" / "scratch" / "000.png"
    done = inside(capsys, "explain", gaussian, image, "--components", "3", "--out", tmp_path / "why")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "anomalous  score" in lines[0]
    assert [line.split(":")[0].strip() for line in lines[1:3]] == ["layer 1", "layer 2"]
    assert len(lines) == 1 + 2 + 3
    assert {path.name for path in (tmp_path / "why").iterdir()} == {
        "blemish.json",
        "explanations.jsonl",
        "000_why.png",
    }
    done = inside(capsys, "explain", gaussian, image, "--components", "7,", "--json")
    told = json.loads(done.stdout)
    assert [(entry["layer"], entry["index"]) for entry in told["components"]] in (
        [("1", 7), ("2", 7)],
        [("2", 7), ("1", 7)],
    )


def test_explain_goes_on_after_an_unreadable_image_and_ends_with_status_3(
    gaussian: Path, tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_parts(tmp_path / "new", 2)
    (tmp_path / "new" / "0.png").write_text("no picture")
    done = inside(capsys, "explain", gaussian, tmp_path / "new", "--json")
    assert done.returncode == 3
    assert "0.png" in done.stderr
    assert len(done.stdout.splitlines()) == 2


def test_diagnoses_are_a_table_or_lines_of_json(gaussian: Path, tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = inside(capsys, "explain", gaussian, "--diagnoses", tree)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1 + 24 + 1 + 40 + 1
    lines = inside(capsys, "explain", gaussian, "--diagnoses", tree, "--json").stdout.splitlines()
    assert json.loads(lines[0])["component"] == 0
    assert json.loads(lines[-1])["component"] == -1


def test_figures_and_gallery_are_written_where_told(
    gaussian: Path, tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = inside(capsys, "explain", gaussian, "--figures", tree, "--images", "2", "--out", tmp_path / "figures")
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        assert Path(line).is_file()
    done = inside(capsys, "explain", gaussian, "--gallery", tree, "--out", tmp_path / "gallery")
    assert done.stdout.strip() == f"gallery: {tmp_path / 'gallery' / 'index.html'}"


def test_figures_of_a_model_without_components_are_its_layers(
    fitted: Path, tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = inside(capsys, "explain", fitted, "--figures", tree, "--images", "2", "--out", tmp_path / "figures")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "figures" / "layers.png")
    assert (tmp_path / "figures" / "layers.png").is_file()


def test_a_subspace_is_found_by_the_method_asked_for(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for method, detector in (("pca", "fre"), ("ae", "fre-ae"), ("tied", "fre-ae")):
        quick = () if method == "pca" else ("--set", "epochs=1")
        done = inside(
            capsys, "fit", tree, "-o", tmp_path / method, "--size", "32", "--layers", "3", "--method", method, *quick,
            "--json",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["detector"] == detector
        settings = json.loads((tmp_path / method / "model.json").read_text())["recipe"]["settings"]
        assert settings.get("method", "pca") == method


def test_compare_prints_what_each_model_takes_and_detects_and_writes_a_page(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "c.html"
    words = ("compare", tree, "--quality", "fast", "--detector", "gaussian")
    done = inside(capsys, *words, "--report", page, "--out", tmp_path / "kept")
    assert done.returncode == 0, done.stderr
    assert "gaussian, fast: about" in done.stderr
    takes, detects = done.stdout.split("\n\n")
    assert takes.split()[:2] == ["detector", "quality"]
    assert "192x192" in takes
    assert detects.splitlines()[2].split()[2:4] == ["24", "4.0"], "images that calibrate, and the rate they state"
    assert max(map(len, detects.partition("models: ")[0].splitlines())) <= 80, "tables fit a terminal"
    assert "100.00" in detects
    assert "made by blemish" in page.read_text()
    assert (tmp_path / "kept" / "gaussian-fast.blemish" / "model.json").exists()
    assert max(map(len, takes.splitlines())) <= 80
    assert "exists already" in one_line_error(inside(capsys, *words, "--report", page))


def test_compare_without_labels_says_what_is_missing(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = inside(capsys, "compare", tree / "train" / "good", "--quality", "fast", "--detector", "gaussian")
    assert done.returncode == 0, done.stderr
    assert "only time and size can be compared" in done.stdout
    assert "AUROC" not in done.stdout
    told = inside(capsys, "compare", tree / "train" / "good", "--quality", "fast", "--detector", "gaussian", "--json")
    (row,) = json.loads(told.stdout)["rows"]
    assert (row["detector"], row["quality"], row["shape"], row["detection"]) == ("gaussian", "fast", [192, 192], None)


def test_compare_ends_with_status_3_if_labelled_images_cannot_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_tree(tmp_path / "t", 24, 2)
    (root / "test" / "good" / "bad.png").write_bytes(b"no image")
    done = inside(capsys, "compare", root, "--quality", "fast", "--detector", "gaussian")
    assert done.returncode == 3
    assert "1 labelled image could not be read" in done.stderr


def test_prune_tells_what_it_left_out_and_the_figures_before_and_after(
    gaussian: Path, tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = inside(capsys, "prune", gaussian, "--drop", "1:3,2:0", "-o", tmp_path / "pruned")
    assert done.returncode == 0, done.stderr
    assert "layer 1: 1 component left out: 3" in done.stdout
    assert f"{tree}: MVTec-style tree, 24 to train" in done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()[-3:-1]] == ["before", "after"]
    done = inside(capsys, "prune", tmp_path / "pruned", "--keep-best", "4", "-o", tmp_path / "again", "--json")
    told = json.loads(done.stdout)
    assert [len(layer) for layer in told["dropped"]] == [20, 36]
    assert told["before"]["pixel"]["auroc"] > 0.5
    assert json.loads((tmp_path / "again" / "model.json").read_text())["recipe"]["settings"]["drop"] == told["dropped"]


def test_a_vae_is_fitted_resumed_and_drawn_from(tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = ("--set", "latent=8", "--set", "drawn=12", "--set", "epochs=1")
    words = ("fit", tree, "--detector", "vae-grf", "--size", "64", "--map", "mad-sm", *short)
    folder = ("--checkpoints", tmp_path / "training")
    done = inside(capsys, *words, *folder, "-o", tmp_path / "m")
    assert done.returncode == 0, done.stderr
    assert "then training, whose progress bar shows the time" in done.stderr
    assert {"checkpoint", "log.jsonl"} <= {path.name for path in (tmp_path / "training").iterdir()}
    recipe = json.loads((tmp_path / "m" / "model.json").read_text())["recipe"]
    assert (recipe["backbone"], recipe["settings"]["map"], recipe["settings"]["latent"]) == ("pixels", "mad-sm", 8)
    done = inside(capsys, *words, *folder, "--set", "epochs=2", "--resume", "--processes", "2", "-o", tmp_path / "m2")
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "training" / "log.jsonl").read_text().splitlines()) == 2
    done = inside(capsys, "sample", tmp_path / "m", "-n", "5", "-o", tmp_path / "grid.png")
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "grid.png") as grid:
        assert grid.width > 3 * 64
        assert grid.height > 2 * 64


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's")
def test_an_interrupted_fit_leaves_no_model(tree: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "blemish", "fit", str(tree), "-o", str(tmp_path / "m"), "--size", "256"]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    assert process.stderr is not None
    assert "MVTec-style" in process.stderr.readline(), "it has begun"
    assert "of memory" in process.stderr.readline(), "torch is imported, which an interrupt would abort"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    # Python ends by the signal itself where it arrived inside an exec; a shell shows 130 for either.
    assert process.returncode in {130, -signal.SIGINT}
    assert errors.splitlines()[-1].startswith("error: interrupted")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux limits addresses and cores so")
def test_a_memory_limit_gives_one_line_and_leaves_nothing(tree: Path, tmp_path: Path) -> None:
    import resource

    limit = 1 << 30
    done = subprocess.run(
        [sys.executable, "-m", "blemish", "fit", str(tree), "-o", str(tmp_path / "m")],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux limits addresses and cores so")
def test_one_core_and_one_thread_give_the_same_scores(saved: Path, tree: Path) -> None:
    def scores(**options: object) -> list[float]:
        command = [sys.executable, "-m", "blemish", "predict", str(saved), str(tree), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, **options)  # type: ignore[call-overload]
        return [json.loads(line)["score"] for line in done.stdout.splitlines()]

    alone = scores(
        env={**ENVIRONMENT, "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]),
    )
    assert alone == pytest.approx(scores(env=ENVIRONMENT), rel=1e-5)


def test_images_of_many_sizes_in_one_batch_score_as_they_do_alone(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    for index, (height, width) in enumerate([(64, 64), (33, 200), (700, 90), (1, 1), (2000, 1500), (64, 65)]):
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(tmp_path / f"{index}.png")
    together = [json.loads(line) for line in inside(capsys, "predict", saved, tmp_path, "--json").stdout.splitlines()]
    assert len(together) == 6
    for line in together:
        alone = json.loads(inside(capsys, "predict", saved, line["path"], "--json").stdout)
        assert alone["score"] == pytest.approx(line["score"], rel=1e-5)


def test_check_lists_problems_and_how_to_fix_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_tree(tmp_path / "t", 4, 2)
    (root / "train" / "good" / "cut.png").write_bytes((root / "train" / "good" / "000.png").read_bytes()[:100])
    (root / "test" / "good" / "000.png").write_bytes((root / "train" / "good" / "001.png").read_bytes())
    (root / "train" / "good" / "same.png").write_bytes((root / "train" / "good" / "002.png").read_bytes())
    Image.new("L", (96, 96)).save(root / "ground_truth" / "scratch" / "000_mask.png")
    Image.open(root / "train" / "good" / "003.png").save(root / "train" / "good" / "photograph.png", "JPEG")
    Image.new("RGB", (40, 20), "red").save(root / "train" / "good" / "wide.png")
    done = inside(capsys, "check", root, "--json")
    assert done.returncode == 1
    findings = json.loads(done.stdout)["findings"]
    assert all(finding["fix"] for finding in findings)
    whole = " | ".join(f"{finding['where']} {finding['what']}" for finding in findings)
    for expected in (
        "cut.png cannot be decoded",
        "a training image",
        "marks nothing",
        "under 64 pixels",
        "wide.png is 20x40, height / width 0.50 where the median is 1.00",
    ):
        assert expected in whole
    assert "is the same file as" in whole
    assert "photograph.png holds JPEG under another suffix" in whole
    assert "false-alarm rate of" in whole
    assert "images to fit" not in whole


def test_check_tells_the_shape_that_a_fit_would_take(
    long_tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = inside(capsys, "check", long_tree)
    assert "training images: all 60x150, height / width 0.40; fit resizes all to 160x416" in told.stdout
    found = json.loads(inside(capsys, "check", long_tree, "--json").stdout)
    assert found["shapes"] == {
        "least_ratio": 0.4, "median_ratio": 0.4, "largest_ratio": 0.4, "input": [160, 416],
        "groups": [{"ratio": 0.4, "images": 24}],
    }  # fmt: skip
    assert not any("squashes" in finding["what"] for finding in found["findings"])
    (tmp_path / "bad.png").write_bytes(b"no image")
    assert json.loads(inside(capsys, "check", tmp_path, "--json").stdout)["shapes"] is None


def test_images_far_from_the_usual_shape_have_one_line_the_most_different_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    for index in range(50):
        width = 100 if index < 30 else 155 + index
        pixels = rng.integers(0, 256, (100, 140 if index == 0 else width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{index:02}.png")
    findings = json.loads(inside(capsys, "check", tmp_path, "--json").stdout)["findings"]
    odd = [finding for finding in findings if "height / width" in finding["what"]]
    assert [Path(finding["where"]).stem for finding in odd] == [str(index) for index in range(49, 29, -1)]
    told = inside(capsys, "check", tmp_path).stdout
    assert "(the same in 19 more: 48.png, 47.png, 46.png and 16 more)" in told
    assert told.count("\n") == 5, "the set, its shapes, the odd shapes, too few images, and how many problems"
    assert ": 29 of about 1.00, 20 of about 0.51, 1 of about 0.71; fit resizes all to" in told


def test_check_of_a_good_set_finds_nothing_that_stops_a_fit(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = inside(capsys, "check", tree)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "1 problem", "so few images allow no rate of 1 %"


def test_a_deep_check_says_where_the_heat_maps_are_or_that_there_are_none(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = inside(capsys, "check", tree, "--deep", "--out", tmp_path / "odd")
    assert ("heat maps: " in done.stdout) == (tmp_path / "odd").exists()
    assert ("no heat maps are written" in done.stdout) != (tmp_path / "odd").exists()
    assert looking_anomalous(1) == "1 of the good images looks anomalous itself"


def test_a_line_that_nobody_reads_any_more_is_an_error_that_the_command_sees() -> None:
    class Gone(io.StringIO):
        def flush(self) -> None:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        Piped(file=Gone()).print("a line")
