"""The programs beside an export give the model's scores without blemish, on files of all kinds."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import blemish
from blemish.export import FORMATS, export_model
from blemish.images import Geometry, read_image
from conftest import ROOT, part, scratched
from exports import export_of, model_of, parts, weights

EXAMPLES = ROOT / "src" / "blemish" / "export" / "examples"


def printed(
    export: str, images: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> list[dict[str, object]]:
    """What `predict.py` prints of images. Its status is 1 if one of them has an error, and 0 else."""
    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", ["predict.py", *map(str, images)])
    with pytest.raises(SystemExit) as left:
        runpy.run_path(str(Path(export) / "predict.py"), run_name="__main__")
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert left.value.code == any("error" in line for line in found)
    return found


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The same kind of part in files of many kinds."""
    folder = tmp_path_factory.mktemp("kinds")
    rng = np.random.default_rng(7)
    images = {size: Image.fromarray(scratched(rng, size)[0]) for size in (64, 96, 700)}
    grey = np.asarray(images[96].convert("L"))
    turned = Image.Exif()
    turned[0x0112] = 6
    alpha = images[96].convert("RGBA")
    alpha.putalpha(Image.fromarray(grey))
    palette = images[96].quantize(16)
    palette.save(folder / "palette.png", transparency=3)
    images[64].save(folder / "as it is.png")
    images[96].save(folder / "rgb.png")
    images[96].convert("L").save(folder / "grey.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(folder / "sixteen.png")
    alpha.save(folder / "alpha.png")
    alpha.convert("LA").save(folder / "grey alpha.png")
    images[700].save(folder / "large.png")
    images[700].crop((0, 0, 700, 430)).save(folder / "large.jpg", quality=90)
    images[700].crop((0, 0, 650, 300)).save(folder / "turned.jpg", exif=turned)
    images[96].convert("CMYK").save(folder / "cmyk.jpg")
    images[96].convert("1").save(folder / "two colours.png")
    images[96].save(folder / "lossless.webp", lossless=True)
    images[96].convert("L").save(folder / "grey.tif")
    return sorted(folder.iterdir())


def assert_same(found: list[dict[str, object]], model: blemish.Model, images: list[Path]) -> None:
    expected = [prediction.as_dict() for prediction in model.predict(images)]
    for own, other in zip(found, expected, strict=True):
        assert own["path"] == other["path"]
        assert own["score"] == pytest.approx(other["score"], rel=1e-4), own["path"]
        assert own["p_value"] == pytest.approx(other["p_value"])
        assert own["is_anomaly"] == other["is_anomaly"]


@pytest.mark.parametrize("form", FORMATS)
def test_predict_py_gives_the_models_verdicts_on_files_of_all_kinds(
    form: str, files: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = printed(export_of("gaussian", form).path, files, monkeypatch, capsys)
    assert_same(found, model_of("gaussian"), files)


def test_predict_py_crops(
    tmp_path: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = blemish.fit(
        parts(),
        detector="gaussian",
        backbone="test_resnet",
        weights=weights(),
        size="75x90",
        crop=64,
        engine="openvino",
    )
    export_model(model, tmp_path / "out", "openvino")
    assert_same(printed(str(tmp_path / "out"), files, monkeypatch, capsys), model, files)
    steps = (tmp_path / "out" / "PREPROCESS.md").read_text()
    assert "Keep 64 rows from row 5 and 64 columns from column 13, counted from 0." in steps


def test_predict_py_cuts_photographs_as_the_model_does(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = blemish.fit(
        photographs, detector="gaussian", backbone="test_resnet", weights=weights(), size=64, tile=80, overlap=24
    )
    done = export_model(model, tmp_path / "out", "openvino")
    assert done.agreement.images == 4
    assert done.agreement.map_largest < 1e-4
    images = sorted((photographs / "test" / "animal").iterdir())
    with Image.open(images[0]) as image:
        image.crop((0, 0, 80, 150)).save(tmp_path / "narrow.png")
        image.crop((0, 0, 60, 150)).save(tmp_path / "small.png")
    images.append(tmp_path / "narrow.png")
    assert_same(printed(done.path, images, monkeypatch, capsys), model, images)
    assert "there are n = ceil((L - 24) / 56) tiles" in (tmp_path / "out" / "PREPROCESS.md").read_text()
    small = printed(done.path, [tmp_path / "small.png"], monkeypatch, capsys)
    assert small == [{"path": str(tmp_path / "small.png"), "error": "is smaller than the tiles of 80 pixels"}]


def test_predict_py_goes_on_after_an_image_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    export, good = export_of("gaussian", "openvino").path, parts() / "000.png"
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:600])
    bad = [tmp_path / "text.png", tmp_path / "cut.png", tmp_path / "absent.png"]
    found = printed(export, [*bad, good], monkeypatch, capsys)
    for line, path in zip(found, bad, strict=False):
        assert set(line) == {"path", "error"}
        assert line["path"] == str(path)
        assert line["error"]
    assert_same(found[3:], model_of("gaussian"), [good])


def test_predict_py_without_an_image_says_how_it_is_used(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["predict.py"])
    with pytest.raises(SystemExit) as left:
        runpy.run_path(str(Path(export_of("gaussian", "openvino").path) / "predict.py"), run_name="__main__")
    assert left.value.code == 2
    assert capsys.readouterr().err == "usage: python predict.py IMAGE...\n"


def test_predict_py_is_short_and_needs_neither_blemish_nor_torch() -> None:
    assert len([*filter(str.strip, (EXAMPLES / "predict.py").read_text().splitlines())]) < 60  # empty lines apart
    program = Path(export_of("gaussian", "openvino").path) / "predict.py"
    code = (
        "import runpy, sys\nsys.modules.update(dict.fromkeys(['blemish', 'torch', 'timm', 'onnx', 'scipy']))\n"
        f"sys.argv = ['predict.py', {str(parts() / '000.png')!r}]\nrunpy.run_path({str(program)!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)) == {"path", "score", "p_value", "is_anomaly"}


@pytest.fixture(scope="module")
def pixels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pixels of a part as the graph takes them."""
    path = tmp_path_factory.mktemp("pixels") / "part.rgb"
    read_image(parts() / "001.png", Geometry(64, 64)).tofile(path)
    return path


def test_the_example_in_cpp_gives_the_models_score(pixels: Path, tmp_path: Path) -> None:
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("there is no C++ compiler")
    from blemish.engines.openvino_runtime import openvino

    package = Path(openvino.__file__).parent
    libraries = sorted((package / "libs").glob("libopenvino.so.*"))
    if not libraries or not (package / "include" / "openvino" / "openvino.hpp").exists():
        pytest.skip("this build of OpenVINO comes without its headers or libraries")
    options = ["-std=c++17", "-O0", "-Wall", "-Werror", "-isystem", package / "include"]
    linked = [libraries[0], f"-Wl,-rpath,{package / 'libs'}", "-o", tmp_path / "predict"]
    subprocess.run([compiler, *options, EXAMPLES / "predict.cpp", *linked], check=True)
    (expected,) = model_of("gaussian").predict(parts() / "001.png")
    for form in ("openvino", "onnx", "tensorrt-onnx"):
        graph = Path(export_of("gaussian", form).path) / FORMATS[form].file
        for threshold in (0.99 * expected.score, 1.01 * expected.score):
            command = [tmp_path / "predict", graph, pixels, str(threshold)]
            told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            assert told["score"] == pytest.approx(expected.score, rel=1e-3)
            assert told["is_anomaly"] == (expected.score > threshold)
    (tmp_path / "short.rgb").write_bytes(b"x")
    done = subprocess.run(
        [tmp_path / "predict", graph, tmp_path / "short.rgb", "1"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (1, f"{tmp_path / 'short.rgb'} has 1 bytes, not 12288\n")


def test_the_example_in_javascript_gives_the_models_score(pixels: Path, tmp_path: Path) -> None:
    node, modules = shutil.which("node"), ROOT / "tests" / "export" / "node_modules"
    if node is None:
        pytest.skip("node is not installed")
    if not modules.is_dir():
        pytest.skip("onnxruntime-web is not installed; npm ci --prefix tests/export")
    (tmp_path / "node_modules").symlink_to(modules)
    (expected,) = model_of("gaussian").predict(parts() / "001.png")
    for form in ("onnx", "tensorrt-onnx"):
        shutil.copytree(export_of("gaussian", form).path, tmp_path / form)
        command = [node, tmp_path / form / "predict.mjs", pixels]
        told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        assert told["score"] == pytest.approx(expected.score, rel=1e-3)
        assert told["p_value"] == pytest.approx(expected.p_value)
        assert told["is_anomaly"] == expected.is_anomaly


def resized(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Grey pixels resized word by word as PREPROCESS.md says."""

    def kernel(x: float) -> float:
        x = abs(x)
        return 1.5 * x**3 - 2.5 * x**2 + 1 if x < 1 else -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0

    def along(rows: np.ndarray, length: float, wanted: int) -> np.ndarray:
        scale = length / wanted
        t = max(scale, 1.0)
        columns = []
        for i in range(wanted):
            centre = (i + 0.5) * scale
            first = max(0, int(np.floor(centre - 2 * t + 0.5)))
            last = min(rows.shape[1], int(np.floor(centre + 2 * t + 0.5)))
            found = np.array([kernel((j - centre + 0.5) / t) for j in range(first, last)])
            found = np.sign(found) * np.floor(np.abs(found / found.sum()) * 2**22 + 0.5)
            columns.append(np.floor((rows[:, first:last] @ found) / 2**22 + 0.5).clip(0, 255))
        return np.stack(columns, 1)

    rows, columns = pixels.shape
    fx, fy = max(1, int(columns / width / 2)), max(1, int(rows / height / 2))
    tops, lefts = range(0, rows, fy), range(0, columns, fx)
    blocks = np.array([[np.floor(pixels[y : y + fy, x : x + fx].mean() + 0.5) for x in lefts] for y in tops])
    return along(along(blocks, columns / fx, width).T, rows / fy, height).T


@pytest.mark.parametrize("size", [(64, 64), (40, 50), (96, 96), (300, 401), (129, 700)])
def test_the_words_of_preprocess_md_give_the_very_pixels(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(size[0])
    grey = part(rng, 700)[: size[0], : size[1], 0]
    expected = read_image(np.ascontiguousarray(grey), Geometry(64, 80))[:, :, 0]
    np.testing.assert_array_equal(resized(grey.astype(float), 64, 80), expected)


def test_preprocess_md_has_this_models_numbers() -> None:
    text = (Path(export_of("gaussian", "onnx").path) / "PREPROCESS.md").read_text()
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == [
        "The graph", "1. Decode", "2. Resize to 64 × 64", "3. Score and verdict"
    ]  # fmt: skip
    assert repr(model_of("gaussian").threshold) in text
    assert "$" not in text
    fixed = (Path(export_of("gaussian", "tensorrt-onnx").path) / "PREPROCESS.md").read_text()
    assert "This graph was not run in TensorRT" in " ".join(fixed.split())
    assert "float32, shape [1, 64, 64, 3]" in fixed
