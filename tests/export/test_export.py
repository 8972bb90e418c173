"""Exports in every format, held against the model, and what keeps a wrong one from being written."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from numpy.typing import NDArray

import blemish
from blemish.errors import ExportError, ImageError, ModelError, SettingError, SourceError, StorageError
from blemish.export import FORMATS, export_model
from blemish.export import export as exporting
from blemish.export.half import halved
from blemish.export.onnx_graph import TENSORRT, suit_tensorrt
from blemish.export.runtimes import Exported
from blemish.export.torch_graph import pickles
from blemish.storage import read_card
from conftest import scratched, write_parts
from exports import export_of, model_of, parts, weights


def new_images(size: int = 64) -> NDArray[np.uint8]:
    """Three scratched parts, which no model has seen."""
    rng = np.random.default_rng(5)
    return np.stack([scratched(rng, size)[0] for _ in range(3)])


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("detector", ["fre", "padim", "gaussian", "vae"])
def test_an_export_gives_the_models_scores_and_maps_on_images_it_was_not_checked_on(detector: str, form: str) -> None:
    done = export_of(detector, form)
    assert done.agreement.images == min(16, len(model_of(detector).calibration.scores))
    assert done.agreement.score_mean <= done.agreement.score_largest <= 1e-4
    images = new_images()
    (expected,) = model_of(detector).engine.run([images])
    exported = Exported(Path(done.path), FORMATS[form])
    for batches in ([images], [images[:1], images[1:]]):
        found = [np.concatenate(parts) for parts in zip(*exported.run(batches), strict=True)]
        np.testing.assert_allclose(found[0], expected[0], rtol=1e-3)
        np.testing.assert_allclose(found[1], expected[1], atol=1e-3 * np.abs(expected[1]).max())


def test_the_card_says_what_a_program_needs() -> None:
    model, done = model_of("padim"), export_of("padim", "onnx")
    card = read_card(Path(done.path), "export")
    assert card["graph"]["input"] == {"name": "images", "type": "uint8", "shape": [None, 64, 64, 3]}
    assert card["graph"]["outputs"]["map"] == {"type": "float32", "shape": [None, 64, 64]}
    assert card["calibration"]["threshold"] == model.threshold
    assert card["calibration"]["scores"] == model.calibration.scores.tolist()
    assert card["preprocessing"]["height"] == 64
    assert card["agreement"]["runtime"].startswith("onnxruntime ")
    assert set(card["files"]) == {"model.onnx", "predict.py", "predict.cpp", "predict.mjs", "PREPROCESS.md"}
    assert {*card["files"], "model.json"} == set(done.files)
    assert str(model.provenance.source) not in (Path(done.path) / "model.json").read_text()
    fixed = read_card(Path(export_of("padim", "tensorrt-onnx").path), "export")["graph"]["input"]
    assert fixed == {"name": "images", "type": "float32", "shape": [1, 64, 64, 3]}


def test_an_export_is_not_taken_for_a_model() -> None:
    with pytest.raises(ModelError, match="holds 'export' by its model.json, not 'model'"):
        blemish.load(export_of("gaussian", "openvino").path)


@pytest.mark.parametrize("form", ["openvino", "onnx"])
def test_half_precision_takes_half_the_room_and_changes_scores_by_less_than_half_a_percent(
    form: str, tmp_path: Path
) -> None:
    model = model_of("padim")
    done = export_model(model, tmp_path / "half", form, half=True)
    graph = sum(size for name, size in done.files.items() if name in {"model.bin", "model.onnx"})
    assert graph < 0.8 * done.single_precision
    assert 1e-6 < done.agreement.score_largest < 5e-3
    images = new_images()
    (expected,) = model.engine.run([images])
    (found,) = Exported(tmp_path / "half", FORMATS[form]).run([images])
    np.testing.assert_allclose(found[0], expected[0], rtol=5e-3)
    assert "float16" in (tmp_path / "half" / "PREPROCESS.md").read_text()


def test_only_numbers_that_half_precision_can_hold_are_halved() -> None:
    values = np.random.default_rng(0).normal(size=(200, 200)).astype(np.float32)
    assert halved(values) is not None
    assert halved(1e-6 * values) is None, "too small"
    assert halved(1e5 * values) is None, "too large"
    assert halved(values[:20]) is None, "not worth it"
    assert halved(np.arange(40_000)) is None


def spoiled(monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], None]) -> None:
    """Lets every graph be changed between its writing and its check."""
    write = exporting._write

    def wrong(model: blemish.Model, folder: Path, *rest: object, **options: object) -> int:
        single = write(model, folder, *rest, **options)  # type: ignore[arg-type]
        spoil(folder)
        return single

    monkeypatch.setattr(exporting, "_write", wrong)


def spoil_onnx(folder: Path) -> None:
    graph = onnx.load(folder / "model.onnx")
    largest = max(graph.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    numbers = onnx.numpy_helper.to_array(largest).copy()
    numbers.flat[: len(numbers.flat) // 50] *= 2
    largest.raw_data = numbers.tobytes()
    onnx.save(graph, folder / "model.onnx")


def spoil_openvino(folder: Path) -> None:
    content = bytearray((folder / "model.bin").read_bytes())
    np.frombuffer(content, np.float32, 20, 400)[:] += 1
    (folder / "model.bin").write_bytes(content)


def spoil_torch(folder: Path) -> None:
    program = torch.export.load(folder / "model.pt2")
    largest = max(program.state_dict.values(), key=torch.Tensor.numel)
    largest.flatten()[: largest.numel() // 50] *= 2
    torch.export.save(program, folder / "model.pt2")


@pytest.mark.parametrize(
    ("form", "spoil"),
    [("openvino", spoil_openvino), ("onnx", spoil_onnx), ("torch", spoil_torch)],
)
def test_a_graph_with_a_wrong_weight_is_refused_and_nothing_is_left(
    form: str, spoil: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoiled(monkeypatch, spoil)
    with pytest.raises(ExportError, match="the export differs from the model, so it is not written: checked on"):
        export_model(model_of("vae"), tmp_path / "out", form)
    assert not [*tmp_path.iterdir()]


def test_a_graph_that_its_runtime_cannot_open_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoiled(monkeypatch, lambda folder: (folder / "model.xml").write_text("<net"))  # type: ignore[arg-type, return-value]
    with pytest.raises(ExportError, match=r"openvino \S+ cannot open the written graph"):
        export_model(model_of("gaussian"), tmp_path / "out", "openvino")
    assert not [*tmp_path.iterdir()]


def test_an_existing_export_is_replaced_only_if_asked_and_unchanged(tmp_path: Path) -> None:
    model, path = model_of("gaussian"), tmp_path / "out"
    export_model(model, path, "openvino")
    with pytest.raises(StorageError, match="exists already"):
        export_model(model, path, "openvino")
    export_model(model, path, "openvino", half=True, force=True)
    assert read_card(path, "export")["graph"]["half"] is True
    (path / "predict.py").write_text("mine")
    with pytest.raises(StorageError, match=r"predict\.py was changed after blemish wrote it, so it is not replaced"):
        export_model(model, path, "openvino", force=True)


def test_where_the_images_were_moved_away_others_are_asked_for(tmp_path: Path) -> None:
    moved = write_parts(tmp_path / "parts", 12, seed=3)
    settings = {"backbone": "test_resnet", "weights": weights(), "size": 64, "engine": "openvino"}
    model = blemish.fit(moved, detector="gaussian", **settings)
    moved.rename(tmp_path / "elsewhere")
    with pytest.raises(SourceError, match=r"no longer there.*--images SOURCE"):
        export_model(model, tmp_path / "out", "openvino")
    done = export_model(model, tmp_path / "out", "openvino", images=str(tmp_path / "elsewhere"))
    assert done.agreement.images == 12
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"x\.png"):
        export_model(model, tmp_path / "other", "openvino", images=str(tmp_path / "bad"))
    assert not (tmp_path / "other").exists()


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="no format is called 'tflite'; give one of openvino, onnx, torch"):
        export_model(model_of("gaussian"), tmp_path / "out", "tflite")


def test_a_map_that_takes_gradients_is_refused(tmp_path: Path) -> None:
    model = blemish.fit(parts(), detector=blemish.VAE(map="gradient", epochs=1, drawn=8, latent=8), size=32)
    with pytest.raises(ExportError, match="vae with map=gradient needs gradients"):
        export_model(model, tmp_path / "out", "onnx")


@pytest.mark.parametrize("detector", ["spade", "hfr"])
def test_other_detectors_are_exported_too(detector: str, tmp_path: Path) -> None:
    assert export_model(model_of(detector), tmp_path / "out", "tensorrt-onnx").agreement.score_largest < 1e-4


def test_a_torch_archive_holds_no_pickle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = Path(export_of("gaussian", "torch").path) / "model.pt2"
    assert pickles(archive) == []

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("something was unpickled")

    for module, name in ((torch, "load"), (pickle, "loads"), (pickle, "load"), (pickle, "Unpickler")):
        monkeypatch.setattr(module, name, refuse)
    torch.export.load(archive)
    with zipfile.ZipFile(tmp_path / "other.pt2", "w") as other:
        other.writestr("m/data/sample_inputs/model.pt", b"x")
        other.writestr("m/data/weights/model_weights_config.json", b'{"use_pickle": true}')
    assert len(pickles(tmp_path / "other.pt2")) == 2


def test_a_graph_for_tensorrt_has_fixed_shapes_and_narrow_indices() -> None:
    graph = ir.load(Path(export_of("padim", "tensorrt-onnx").path) / "model.onnx").graph
    assert {node.op_type for node in graph} <= TENSORRT
    gathers = [node for node in graph if node.op_type == "Gather"]
    assert gathers
    assert {node.inputs[1].dtype for node in gathers} == {ir.DataType.INT32}
    assert [list(port.shape) for port in (*graph.inputs, *graph.outputs)] == [[1, 64, 64, 3], [1], [1, 64, 64]]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("y = NonZero(x)", "TensorRT does not support NonZero"),
        ("y = Cast<to=11>(x)", "does not support double precision"),
    ],
)
def test_what_tensorrt_does_not_take_is_refused(text: str, told: str) -> None:
    model = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : 18]> g (float[1, 3] x) => (double[1, 3] y) {{ {text} }}'
    )
    with pytest.raises(ExportError, match=told):
        suit_tensorrt(ir.from_proto(model))
