"""Cross-fitting: each image is scored by a model of the others, without a second fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import blemish
from blemish.calibration import assign_folds
from blemish.calibration.cross_fit import fold_count
from blemish.datasets import Dataset, read_source
from blemish.detectors import Detector, make_detector
from blemish.detectors.scoring import Scoring
from blemish.engines import RunsOn
from blemish.engines.extractor import make_extractor
from blemish.engines.stream import stream
from blemish.errors import BadImagesError, SettingError
from blemish.images import Copies, Geometry
from blemish.model import Model
from conftest import write_parts

CLOSED: list[tuple[str, dict[str, Any]]] = [
    ("fre", {}),
    ("gaussian", {}),
    ("padim", {}),
    ("padim", {"reduction": "pca", "dims": 20, "epsilon": 0.5}),
    ("padim", {"reduction": "all", "epsilon": 1.0}),
    ("spade", {}),
]
SIDE = 64


@pytest.fixture(scope="module", autouse=True)
def threads() -> Iterator[None]:
    """Two, so that folds are scored side by side."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return read_source(write_parts(tmp_path_factory.mktemp("parts") / "good", 34))


def fitted(source: Any, **options: Any) -> Model:
    return blemish.fit(source, **{"size": SIDE, "engine": "torch", "copies": 0, **options})


def refitted(detector: Detector, dataset: Dataset, copies: int, names: set[str]) -> tuple[Scoring, Any]:
    """The slow way: a detector fitted on all images but some, and the function that extracts features."""
    extractor = make_extractor(
        "efficientnet_lite0", None, detector.strides, Geometry(SIDE, SIDE), RunsOn("torch", "cpu")
    )

    def features(paths: list[Path], count: int) -> list[torch.Tensor]:
        chunks = [chunk.arrays for chunk in stream(extractor.engine, paths, Geometry(SIDE, SIDE), Copies(count, 0))]
        return [torch.from_numpy(np.concatenate(layer)) for layer in zip(*chunks, strict=True)]

    others = [sample.path for sample in dataset.train if sample.path.name not in names]
    return Scoring(detector.update(features(others, copies)), (SIDE, SIDE)), features


@pytest.mark.parametrize("copies", [0, 1])
@pytest.mark.parametrize(("name", "options"), CLOSED)
def test_scores_are_those_of_models_fitted_again_without_each_fold(
    parts: Dataset, name: str, options: dict[str, Any], copies: int
) -> None:
    model = fitted(parts, detector=name, settings=options, copies=copies, folds=10)
    assert model.calibration.folds == 10
    assert len(model.calibration.scores) == 34
    assert model.learned.detector.count == 34 * (1 + copies)
    score = dict(zip(model.calibration.names, model.calibration.scores.tolist(), strict=True))
    digests = {path.name: digest for path, digest in digests_of(parts).items()}
    names = sorted(digests)
    folds = assign_folds([digests[own] for own in names], 0)
    left = [own for own, number in zip(names, folds.tolist(), strict=True) if number == 7]
    scoring, features = refitted(make_detector(name, model.recipe.settings), parts, copies, set(left))
    slow, _ = scoring.arrays(features([Path(parts.root) / own for own in left], 0))
    np.testing.assert_allclose([score[own] for own in left], slow, rtol=2e-3)


@pytest.mark.parametrize("options", [{}, {"epsilon": 1.0}, {"reduction": "all", "epsilon": 0.1}, {"dims": 5}])
def test_padim_leaves_out_each_image_at_once_as_a_model_fitted_again_without_it_would(
    parts: Dataset, options: dict[str, Any]
) -> None:
    model = fitted(parts, detector="padim", settings=options)
    assert model.calibration.folds == 34
    score = dict(zip(model.calibration.names, model.calibration.scores.tolist(), strict=True))
    for name in ("000.png", "017.png"):
        scoring, features = refitted(make_detector("padim", options), parts, 0, {name})
        slow, _ = scoring.arrays(features([Path(parts.root) / name], 0))
        np.testing.assert_allclose(score[name], slow[0], rtol=2e-3)


def test_where_leaving_out_at_once_is_not_exact_padim_is_fitted_again_for_each_fold(parts: Dataset) -> None:
    for options in ({"reduction": "pca", "dims": 20}, {"epsilon": 1e-4}):
        assert fitted(parts, detector="padim", settings=options).calibration.folds == 10
    assert fitted(parts, detector="padim", copies=1).calibration.folds == 10


def digests_of(dataset: Dataset) -> dict[Path, str]:
    class Nothing:
        def run(self, batches: Any) -> Any:
            for batch in batches:
                yield (np.zeros((len(batch), 1), np.float32),)

    paths = [sample.path for sample in dataset.train]
    found: dict[Path, str] = {}
    for chunk in stream(Nothing(), paths, Geometry(SIDE, SIDE)):  # type: ignore[arg-type]
        found |= {paths[index]: digest for index, digest in chunk.digests.items()}
    return found


@settings(max_examples=50, deadline=None)
@given(
    digests=st.lists(st.sampled_from("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQR"), min_size=2, max_size=60),
    seed=st.integers(0, 5),
    order=st.randoms(use_true_random=False),
)
def test_folds_depend_on_the_images_alone_and_keep_equal_images_together(
    digests: list[str], seed: int, order: Any
) -> None:
    fold = dict(zip(digests, assign_folds(digests, seed).tolist(), strict=True))
    assert assign_folds(digests, seed).tolist() == [fold[digest] for digest in digests]
    shuffled = list(digests)
    order.shuffle(shuffled)
    assert assign_folds(shuffled, seed).tolist() == [fold[digest] for digest in shuffled]
    sizes = np.bincount(list(fold.values()))
    assert len(sizes) == fold_count(len(fold))
    assert sizes.max() - sizes.min() <= 1


def test_there_are_ten_folds_or_as_many_as_images_if_these_are_few() -> None:
    assert [fold_count(images) for images in (2, 9, 29, 30, 2000)] == [2, 9, 29, 10, 10]
    assert [fold_count(images, 5) for images in (3, 40)] == [3, 5]
    with pytest.raises(SettingError, match="folds 1 is out of range"):
        fold_count(40, 1)


@pytest.mark.parametrize("detector", ["fre", "padim", "gaussian"])
def test_an_image_that_is_there_twice_is_counted_once(parts: Dataset, detector: str) -> None:
    twice = replace(parts, train=[*parts.train, *parts.train[:5]])
    model, once = fitted(twice, detector=detector), fitted(parts, detector=detector)
    assert (model.provenance.images, model.provenance.repeated) == (len(parts.train), 5)
    assert model.calibration.names == once.calibration.names
    np.testing.assert_allclose(model.calibration.scores, once.calibration.scores, rtol=1e-4)


def test_photographs_are_left_out_whole(photographs: Path) -> None:
    model = blemish.fit(photographs, tile=64, size=64, engine="torch", copies=0)
    assert model.calibration.folds == len(model.calibration.scores) == model.provenance.images


@pytest.mark.parametrize(("options", "variance"), [({}, 0.97), ({"copies": 1}, 0.9)])
def test_fre_keeps_less_of_the_variance_where_copies_add_to_it(
    parts: Dataset, options: dict[str, Any], variance: float
) -> None:
    assert fitted(parts, **options).recipe.settings["variance"] == variance
    assert fitted(parts, settings={"variance": 0.5}, **options).recipe.settings["variance"] == 0.5


def test_the_order_of_the_images_changes_no_score(parts: Dataset) -> None:
    one, other = fitted(parts), fitted(replace(parts, train=parts.train[::-1]))
    assert one.calibration.names == other.calibration.names
    np.testing.assert_allclose(one.calibration.scores, other.calibration.scores, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"calibration": "both"}, "calibration 'both' is not known; give cross or hold-out"),
        ({"calibration": "cross", "calibration_share": 0.2}, "holds out no images"),
        ({"calibration": "hold-out", "folds": 4}, "only a cross-fit has folds"),
        ({"folds": 1}, "folds 1 is out of range"),
        ({"copies": -1}, "copies -1 is out of range"),
        ({"copies": 65}, "copies 65 is out of range"),
        ({"copies": 1.5}, "copies 1.5 is not a whole number"),
        ({"folds": 2.5}, "folds 2.5 is not a whole number"),
        ({"false_alarm_rate": "0.1"}, "false-alarm rate '0.1' is not a number"),
        ({"false_alarm_rate": 1 - 1e-14}, "is out of range; give a rate above 0 and below 1"),
        ({"seed": -1}, "seed -1 is out of range"),
        ({"seed": 1 << 41}, "seed 2199023255552 is out of range"),
        ({"copies": 30, "calibration": "cross"}, "fre can be cross-fitted on at most 1,024 images or tiles"),
        (
            {"calibration": "cross", "detector": "hfr"},
            "trains it again for each fold; say how often, such as --folds 5",
        ),
        ({"copies": 1, "detector": "hfr"}, "hfr is trained, and copies are for detectors that learn in one pass"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence_before_the_work_starts(
    parts: Dataset, options: dict[str, Any], told: str
) -> None:
    def work(*_: object) -> None:
        raise AssertionError

    with pytest.raises(SettingError, match=told):
        fitted(parts, announce=work, **options)


def test_numbers_of_numpy_are_numbers(parts: Dataset, tmp_path: Path) -> None:
    rates = {"false_alarm_rate": np.float32(0.2), "box_rate": np.float32(0.3)}
    model = fitted(parts, folds=np.int64(3), copies=np.int32(0), seed=np.int64(1), **rates)
    model.save(tmp_path / "model")
    loaded = blemish.load(tmp_path / "model")
    assert (loaded.threshold, loaded.calibration.box_level) == (model.threshold, model.calibration.box_level)
    assert (loaded.calibration.folds, loaded.recipe.seed) == (3, 1)


def without(folder: Path, count: int) -> Path:
    """The folder with so many of its first images damaged."""
    for index in range(count):
        (folder / f"{index:03d}.png").write_bytes(b"no image")
    return folder


def test_one_image_that_is_left_of_bad_ones_is_too_few(tmp_path: Path) -> None:
    folder = without(write_parts(tmp_path / "good", 5), 4)
    with pytest.raises(BadImagesError, match="too few are left; give at least 2 good images"):
        fitted(folder, skip_bad=True)


@pytest.mark.parametrize("options", [{}, {"detector": "hfr", "folds": 2}])
def test_where_bad_images_leave_too_few_for_a_rate_nothing_is_trained_or_scored(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    stages: set[str] = set()
    folder = without(write_parts(tmp_path / "good", 9), 2)
    told = r"needs 9 good images to calibrate on, and there are 7 \(2 left out\), which allow 0\.125 or more; ask for "
    with pytest.raises(SettingError, match=told + "that, or add images$"):
        fitted(folder, skip_bad=True, false_alarm_rate=0.1, progress=lambda stage, *_: stages.add(stage), **options)
    assert stages == {"fit"}


def test_features_on_disk_give_the_same_calibration_to_the_bit(parts: Dataset) -> None:
    for options in ({"detector": "spade"}, {"detector": "hfr", "settings": {"epochs": 1}, "folds": 2}):
        kept, spilled = (fitted(parts, memory=memory, **options).calibration for memory in (None, 0))
        assert np.array_equal(kept.scores, spilled.scores)
        assert np.array_equal(kept.medians, spilled.medians)
        assert np.array_equal(kept.maxima, spilled.maxima)


def test_a_covariance_that_cannot_be_inverted_is_told_in_one_line(parts: Dataset) -> None:
    with pytest.raises(SettingError, match=r"epsilon 1e-12 is too small for these images; give a larger one"):
        fitted(parts, detector="padim", settings={"epsilon": 1e-12})


def test_a_share_or_the_hold_out_leaves_images_out_of_the_first_model(parts: Dataset) -> None:
    for options in ({"calibration": "hold-out"}, {"calibration_share": 0.5}):
        model = fitted(parts, **options)
        assert model.calibration.folds == 0
        assert model.provenance.held_out == len(model.calibration.scores) == 17


def test_a_prediction_says_whether_the_model_was_fitted_on_the_image(parts: Dataset, tmp_path: Path) -> None:
    model = fitted(parts)
    copied = tmp_path / "other name.png"
    copied.write_bytes(parts.train[3].path.read_bytes())
    unknown = write_parts(tmp_path / "more", 1, seed=77) / "000.png"
    assert [found.is_known for found in model.predict([copied, unknown])] == [True, False]
