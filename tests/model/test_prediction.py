"""What `predict`, `predict_one` and `features` take and give, and what a prediction draws."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import blemish
from blemish.errors import BlemishError, ImageError, SettingError, SourceError
from blemish.model import Model
from blemish.progress import Printed
from conftest import part, scratched

NO_FRAME = np.full((64, 64, 3), np.nan)


@pytest.fixture(scope="module")
def quick(small: Path) -> Model:
    return blemish.load(str(small))


@pytest.fixture(scope="module")
def frame() -> np.ndarray:
    return scratched(np.random.default_rng(5))[0]


def test_the_same_picture_has_the_same_score_however_it_is_given(
    quick: Model, frame: np.ndarray, tmp_path: Path
) -> None:
    Image.fromarray(frame).save(tmp_path / "x.png")
    path, tensor = tmp_path / "x.png", torch.from_numpy(frame).permute(2, 0, 1)
    ways = [path, str(path), path.read_bytes(), Image.open(path), frame, frame / 255, tensor, tensor / 255, frame[None]]
    expected = [p.score for p in quick.predict(path)]
    assert [p.score for p in quick.predict(ways)] == expected * len(ways)
    assert [quick.predict_one(way).score for way in ways[:-1]] == expected * (len(ways) - 1)
    assert quick.predict_one(frame[..., ::-1], bgr=True).score == expected[0]
    assert next(quick.predict(frame[..., ::-1], bgr=True)).score == expected[0]
    assert quick.explain(frame / 255).score == quick.explain(frame[..., ::-1], bgr=True).score == expected[0]


def test_predict_one_says_what_predict_says(quick: Model, frame: np.ndarray, tree: Path) -> None:
    for image in (frame, tree / "train" / "good" / "000.png"):
        (expected,), found = quick.predict([image]), quick.predict_one(image)
        assert found.as_dict() == expected.as_dict()
        assert found.digest == expected.digest
        assert np.array_equal(found.map, expected.map)  # type: ignore[arg-type]


def test_predict_one_takes_a_photograph_in_tiles(photographs: Path) -> None:
    tiled = blemish.fit(photographs, detector="gaussian", tile=64, layers=[1])
    path = photographs / "test" / "animal" / "0.png"
    assert tiled.predict_one(np.asarray(Image.open(path))).score == next(tiled.predict(path)).score
    assert tiled.features(path)[0].shape == (15, 24, 16, 16)


def test_an_image_without_a_score_stops_a_prediction_and_is_named(
    quick: Model, frame: np.ndarray, tmp_path: Path
) -> None:
    found = quick.predict([frame, NO_FRAME, frame])
    assert next(found).is_anomaly is True
    with pytest.raises(ImageError, match="image 2: has values that are not finite.*errors='keep'"):
        next(found)
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"x")
    with pytest.raises(ImageError, match=r"bad\.png: is not an image"):
        list(quick.predict(bad))
    for way in (lambda: quick.predict_one(NO_FRAME), lambda: quick.features([frame, NO_FRAME])):
        with pytest.raises(ImageError, match="not finite"):
            way()


def test_kept_errors_are_neither_good_nor_anomalous(quick: Model, frame: np.ndarray) -> None:
    _, failed, _ = quick.predict([frame, NO_FRAME, frame], errors="keep")
    for found in (failed, quick.predict_one(NO_FRAME, errors="keep")):
        assert found.is_anomaly is None
        assert found.is_anomaly is not False, "the idiom of the page rejects it"
        assert np.isnan(found.score)
        assert "not finite" in str(found.error)
    with pytest.raises(SettingError, match="errors='ignore'"):
        quick.predict(frame, errors="ignore")  # type: ignore[arg-type]


def test_a_generator_is_predicted_as_it_comes_and_never_held_as_a_whole(quick: Model, frame: np.ndarray) -> None:
    taken = 0

    def camera() -> Iterator[np.ndarray]:
        nonlocal taken
        for _ in range(300):
            taken += 1
            yield frame

    told: list[tuple[int, int]] = []
    found = quick.predict(camera(), lambda _, done, total: told.append((done, total)))
    next(found), next(found)
    assert taken < 200
    assert told == [(1, 0)]
    found.close()  # type: ignore[attr-defined]


def test_one_image_means_one(quick: Model, frame: np.ndarray) -> None:
    for wrong in (np.stack([frame, frame]), [frame, frame], []):
        with pytest.raises(SourceError, match="not one image"):
            quick.predict_one(wrong)  # type: ignore[arg-type]
    with pytest.raises(SourceError, match="no image"):
        quick.predict_one(5)  # type: ignore[arg-type]


def test_features_are_those_of_the_layers_in_the_order_of_the_images(quick: Model, frame: np.ndarray) -> None:
    good = part(np.random.default_rng(1))
    both = quick.features([good, frame])
    assert [layer.shape[1:] for layer in both] == quick.recipe.grids
    for layer, alone in zip(both, quick.features(frame), strict=True):
        assert np.array_equal(layer[1:], alone)
    assert [layer.shape[0] for layer in quick.features([])] == [0, 0]


def test_a_prediction_draws_its_image_with_heat_and_boxes(quick: Model, frame: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(frame).save(tmp_path / "x.png")
    of_array, of_file = quick.predict_one(frame), quick.predict_one(tmp_path / "x.png")
    picture = of_array.picture()
    assert (picture.mode, picture.size) == ("RGB", (96, 96))  # the image's own
    assert np.array_equal(np.asarray(picture), np.asarray(of_file.picture()))
    found = pickle.loads(pickle.dumps(of_array))  # noqa: S301 (as between processes of one's own)
    assert np.array_equal(np.asarray(picture), np.asarray(found.picture()))
    of_array.save(tmp_path / "heat.png")
    of_array.save(tmp_path / "heat.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "heat.png")), np.asarray(picture))
    assert str(of_array._repr_png_())[:8] == str(b"\x89PNG")[:8]
    with pytest.raises(SettingError, match="heat.txt"):
        of_array.save(tmp_path / "heat.txt")


def test_what_has_no_picture_says_so_and_shows_its_text(quick: Model, frame: np.ndarray, tmp_path: Path) -> None:
    failed = quick.predict_one(NO_FRAME, errors="keep")
    with pytest.raises(BlemishError, match="no map to draw.*not finite"):
        failed.picture()
    Image.fromarray(frame).save(tmp_path / "x.png")
    gone = quick.predict_one(tmp_path / "x.png")
    (tmp_path / "x.png").unlink()
    with pytest.raises(BlemishError, match="does not exist"):
        gone.picture()
    assert failed._repr_png_() is gone._repr_png_() is None


def test_a_fit_takes_images_in_memory_and_is_the_fit_of_their_files(tree: Path) -> None:
    good = sorted((tree / "train" / "good").glob("*.png"))
    settings = {"detector": "gaussian", "size": 64, "layers": [1, 2], "false_alarm_rate": 0.1}
    by_file, frame = blemish.fit(good, **settings), np.asarray(Image.open(good[0]))  # type: ignore[arg-type]
    mixed = [np.asarray(Image.open(path))[..., ::-1] for path in good[:8]]
    in_memory = blemish.fit([*mixed, *map(Image.open, good[8:16]), *good[16:]], bgr=True, **settings)  # type: ignore[arg-type]
    assert in_memory.predict_one(frame).score == pytest.approx(by_file.predict_one(frame).score, rel=1e-4)
    assert in_memory.provenance.source == by_file.provenance.source == "memory"
    assert np.array_equal(np.sort(in_memory.inside.names()), np.sort(by_file.inside.names()))
    more = by_file.update([part(np.random.default_rng(70)) / 255])
    assert len(more.inside) == 25
    assert len(more.forget(part(np.random.default_rng(70))[..., ::-1], bgr=True).inside) == 24
    calibrated = blemish.calibrate(by_file, [part(np.random.default_rng(seed)) for seed in range(40, 60)])
    assert calibrated.provenance.calibrated_on.images == 20
    with pytest.raises(SourceError, match="no image was given"):
        blemish.fit([])
    with pytest.raises(ImageError, match="not finite"):
        blemish.fit([frame, NO_FRAME])


def test_models_and_evaluations_say_in_five_lines_what_they_are(quick: Model, tree: Path) -> None:
    lines = repr(quick).splitlines()
    assert len(lines) == 5
    for told in ("gaussian", "tf_efficientnet_lite0", "layers 1, 2", "64x64", "24 good images", "rate of 0.1"):
        assert told in repr(quick)
    evaluation = blemish.evaluate(quick, tree, progress=True)
    told_lines = repr(evaluation).splitlines()
    assert len(told_lines) == 5
    assert told_lines[0] == f"Evaluation: 5 good and 5 anomalous images of {tree}"
    assert "auroc 1.000" in told_lines[1]


def test_progress_is_printed_when_asked(quick: Model, frame: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    list(quick.predict([frame] * 3, progress=True))
    assert capsys.readouterr().err.endswith("\rpredict 3/3\n")
    Printed()("predict", 1, 0)
    assert capsys.readouterr().err == "\rpredict 1"


def test_who_listens_is_told_what_is_loaded(small: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "blemish"):
        blemish.load(str(small))
    assert [record.message for record in caplog.records] == [
        "engine openvino on CPU",
        f"loaded {small}: gaussian, engine openvino",
    ]


def test_the_version_is_that_of_the_package() -> None:
    assert blemish.__version__[0].isdigit()


def test_predictions_can_be_found_in_lists_and_sets(quick: Model, frame: np.ndarray) -> None:
    first, second = quick.predict([frame, frame])
    assert [first, second].index(second) == 1
    assert len({first, second, first}) == 2


def test_a_path_in_the_place_of_a_model_and_a_list_in_that_of_a_source_are_refused(
    small: Path, quick: Model, frame: np.ndarray
) -> None:
    with pytest.raises(SettingError, match="is a path, not a model; give blemish.load"):
        blemish.evaluate(str(small), "parts")  # type: ignore[arg-type]
    with pytest.raises(SourceError, match="list is no source; give a path"):
        blemish.evaluate(quick, [frame])  # type: ignore[arg-type]


def test_images_in_memory_that_are_too_few_are_not_named_by_a_temporary_folder(frame: np.ndarray) -> None:
    for given, told in (([frame], "memory: has 1 image to fit"), ([frame] * 3, "memory: all 3 images to fit are")):
        with pytest.raises(BlemishError, match=f"^{told}"):
            blemish.fit(given, detector="gaussian", size=64)
