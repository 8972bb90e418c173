from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import blemish
from blemish.datasets import Dataset, read_source
from blemish.errors import SettingError, StorageError
from blemish.evaluation import compare as comparing
from blemish.evaluation.compare import Comparison, Detection, Entrant, enter
from blemish.fitting import Plan
from blemish.fitting.quality import QUALITIES, Quality


@pytest.fixture(scope="module", autouse=True)
def small() -> Any:
    """Rungs of small inputs, so that the fits are short; the backbones stay."""
    before = dict(QUALITIES)
    for number, name in enumerate(before):
        QUALITIES[name] = Quality(before[name].backbone, 64 + 32 * number, 0)
    yield
    QUALITIES.update(before)


@pytest.fixture(scope="module")
def told() -> list[tuple[Entrant, Plan]]:
    return []


@pytest.fixture(scope="module")
def comparison(tree: Path, told: list[tuple[Entrant, Plan]]) -> Comparison:
    return blemish.compare(
        tree, qualities=["fast", "best"], detectors=["gaussian", "fre"], announce=lambda *each: told.append(each)
    )


def test_each_detector_is_fitted_at_each_rung(comparison: Comparison) -> None:
    assert [row.name for row in comparison.rows] == ["gaussian, fast", "gaussian, best", "fre, fast", "fre, best"]
    for row in comparison.rows:
        rung = QUALITIES[str(row.quality)]
        assert row.shape == (rung.size, rung.size)
        assert row.backbone.endswith(rung.backbone)


def test_figures_are_those_of_a_fit_and_an_evaluation_by_hand(comparison: Comparison, tree: Path) -> None:
    row = comparison.rows[0]
    model = blemish.fit(tree, detector="gaussian", quality="fast")
    found = blemish.evaluate(model, tree)
    assert (row.images, row.folds) == (len(model.calibration.scores), model.calibration.folds)
    assert row.stated_rate == model.calibration.rate
    assert row.detection == Detection(
        found.image["auroc"],
        found.pixel["auroc"],
        found.pixel["aupro"],
        found.decisions["false_alarm_rate"],
        found.decisions["detection_rate"],
        0,
    )


def test_what_a_model_takes_is_measured(comparison: Comparison, tree: Path, tmp_path: Path) -> None:
    assert all(row.fit_seconds > 0 and row.seconds_per_image > 0 for row in comparison.rows)
    blemish.fit(tree, detector="gaussian", quality="fast").save(tmp_path / "m")
    size = sum(file.stat().st_size for file in (tmp_path / "m").iterdir())
    assert comparison.rows[0].bytes == pytest.approx(size, rel=0.01)


def test_each_fit_is_announced_with_what_it_will_need(comparison: Comparison, told: list[tuple[Entrant, Plan]]) -> None:
    assert [str(entrant) for entrant, _ in told] == [row.name for row in comparison.rows]
    assert [plan.shape for _, plan in told] == [row.shape for row in comparison.rows]


def test_without_labels_there_are_time_and_size_and_a_line_says_what_is_missing(tree: Path) -> None:
    found = blemish.compare(tree / "train" / "good", qualities=["fast"], detectors=["gaussian"])
    (row,) = found.rows
    assert row.detection is None
    assert row.bytes > 0
    assert found.missing is not None
    assert found.missing.startswith("no labelled images, so only time and size can be compared; to compare detection")


@pytest.mark.parametrize(
    ("kept", "masks", "missing"),
    [
        ({"good", "scratch"}, True, None),
        ({"good", "scratch"}, False, "no masks, so there are no pixel figures"),
        ({"good"}, False, "all labelled images are good; the image AUROC needs anomalous ones too"),
        ({"scratch"}, True, "all labelled images are anomalous; the image AUROC needs good ones too"),
    ],
)
def test_what_is_missing_is_told(tree: Path, kept: set[str], masks: bool, missing: str | None) -> None:
    whole = read_source(tree)
    dataset = replace(whole, test=[sample for sample in whole.test if sample.kind in kept], has_masks=masks)
    assert Comparison(dataset, []).missing == missing


def test_by_default_fre_is_fitted_at_every_rung_and_two_others_at_balanced() -> None:
    assert list(map(str, enter(None, None))) == [
        "fre, fast",
        "fre, balanced",
        "fre, best",
        "padim, balanced",
        "gaussian, balanced",
    ]
    assert list(map(str, enter(["best"], None))) == ["fre, best"]
    assert list(map(str, enter(None, ["padim", "padim"]))) == ["padim, balanced"]


def test_a_detector_that_looks_at_the_images_is_fitted_once_whatever_the_rungs() -> None:
    assert list(map(str, enter(["fast", "best"], ["vae", "fre"]))) == ["vae", "fre, fast", "fre, best"]


@pytest.mark.parametrize(
    ("qualities", "detectors", "message"),
    [
        (["fast", "better"], None, "no quality is called 'better'"),
        (None, ["fre", "frog"], "no detector is called 'frog'"),
        ([], None, "there is nothing to compare"),
        (None, [], "there is nothing to compare"),
    ],
)
def test_a_wrong_name_is_refused_before_any_fit(
    tree: Path, monkeypatch: pytest.MonkeyPatch, qualities: Any, detectors: Any, message: str
) -> None:
    monkeypatch.setattr(comparing, "fit", None)
    with pytest.raises(SettingError, match=message):
        blemish.compare(tree, qualities=qualities, detectors=detectors)


def test_models_are_kept_where_told_and_nothing_is_replaced(tree: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"qualities": ["fast"], "detectors": ["gaussian"], "out": tmp_path / "kept"}
    (row,) = blemish.compare(tree, **options).rows
    place = tmp_path / "kept" / "gaussian-fast.blemish"
    assert blemish.load(str(place)).recipe.geometry.shape == row.shape
    assert row.bytes == sum(file.stat().st_size for file in place.iterdir())
    with pytest.raises(StorageError, match="exists already"):
        blemish.compare(tree, **options)
    blemish.compare(tree, **options, force=True)


def test_labelled_images_that_cannot_be_read_are_counted(tree: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(tree, tmp_path / "t"))
    (root / "test" / "good" / "bad.png").write_bytes(b"no image")
    assert blemish.compare(root, qualities=["fast"], detectors=["gaussian"]).unreadable == 1


def test_a_comparison_can_be_told_as_json(comparison: Comparison) -> None:
    told = json.loads(json.dumps(comparison.as_dict(), allow_nan=False))
    assert told["missing"] is None
    assert told["rows"][0]["detection"]["image_auroc"] == comparison.rows[0].detection.image_auroc  # type: ignore[union-attr]


def test_a_data_set_that_was_read_is_taken(tree: Path) -> None:
    dataset: Dataset = read_source(tree)
    assert blemish.compare(dataset, qualities=["fast"], detectors=["gaussian"]).dataset is dataset
