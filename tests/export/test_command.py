"""`blemish export` as a user meets it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from blemish.cli.export import Form
from blemish.export import FORMATS, Agreement
from blemish.export import export as exporting
from blemish.export.checking import compare
from command import ENVIRONMENT, inside
from exports import model_of


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("command") / "parts.blemish"
    model_of("gaussian").save(path)
    return path


def test_sizes_and_tolerance_are_printed(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = inside(capsys, "export", saved, "-o", tmp_path / "out", "--format", "openvino", "--half")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("checked on 16 images in openvino ")
    assert "(allowed: 0.005, for maps 0.01)" in lines[0]
    assert {line.split()[-1] for line in lines[1:-2]} == {path.name for path in (tmp_path / "out").iterdir()}
    assert lines[-2].startswith("the graph takes ")
    assert lines[-1] == f"saved to {tmp_path / 'out'}"
    done = inside(capsys, "export", saved, "-o", tmp_path / "out", "--format", "openvino", "--force", "--json")
    told = json.loads(done.stdout)
    assert {"path", "format", "half", "files", "single_precision", "agreement"} == set(told)
    assert told["agreement"]["allowed"] == 1e-3


def test_the_command_knows_all_formats() -> None:
    assert [form.value for form in Form] == list(FORMATS)


def test_each_mistake_is_one_line(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "there").mkdir()
    cases = {
        ("--format", "tflite", "-o", tmp_path / "out"): (2, "'tflite' is not one of 'openvino', 'onnx', 'torch'"),
        ("-o", tmp_path / "out"): (2, "Missing option '--format'"),
        ("--format", "openvino", "-o", tmp_path / "there"): (1, "exists already"),
        ("--format", "openvino", "-o", tmp_path / "there", "--force"): (
            1,
            "holds no model.json, so it is not replaced",
        ),
        ("--format", "openvino", "-o", tmp_path / "out", "--images", tmp_path / "no"): (1, "no such file or folder"),
    }
    for words, (status, told) in cases.items():
        done = inside(capsys, "export", saved, *words)
        (line,) = done.stderr.splitlines()
        assert done.returncode == status
        assert line.startswith("error: ")
        assert told in line
    done = inside(capsys, "export", tmp_path / "nothing", "--format", "openvino", "-o", tmp_path / "out")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("module", "form", "told"),
    [
        (
            "onnxruntime",
            "onnx",
            "an export to onnx needs onnxruntime; pip install 'blemish[export]', or '.[export]' in a clone",
        ),
        (
            "onnxscript",
            "tensorrt-onnx",
            "an export to tensorrt-onnx needs onnxscript; pip install 'blemish[export]', or '.[export]' in a clone",
        ),
        (
            "torch",
            "torch",
            "an export to torch needs torch; pip install 'blemish[fit,export]', or '.[fit,export]' in a clone",
        ),
    ],
)
def test_what_is_not_installed_is_asked_for_before_the_model_is_read(
    module: str,
    form: str,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    done = inside(capsys, "export", tmp_path / "nothing", "--format", form, "-o", tmp_path / "out")
    assert (done.returncode, done.stderr) == (1, f"error: {told}\n")


def test_an_export_to_openvino_needs_no_torch(saved: Path, tmp_path: Path) -> None:
    words = ["blemish", "export", str(saved), "-o", str(tmp_path / "out"), "--format", "openvino", "--half"]
    program = (
        "import sys\nsys.modules.update(dict.fromkeys(['torch', 'timm', 'scipy', 'onnx', 'onnxruntime']))\n"
        f"sys.argv = {words!r}\nfrom blemish.cli import main\nmain()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / FORMATS["openvino"].file).is_file()


def test_a_verdict_that_changes_is_named_in_a_warning(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def flipping(*given: object) -> Agreement:
        return replace(compare(*given), flipped=("a.png", "b.png"))  # type: ignore[arg-type]

    monkeypatch.setattr(exporting, "compare", flipping)
    done = inside(capsys, "export", saved, "-o", tmp_path / "out", "--format", "openvino")
    assert done.returncode == 0, done.stderr
    assert "2 images near the threshold changed verdict: a.png, b.png" in done.stderr
