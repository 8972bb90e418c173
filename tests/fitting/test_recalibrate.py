from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import blemish
from blemish.detectors import Gaussian
from blemish.errors import BadImagesError, DegenerateError, SettingError, SourceError
from blemish.fitting import refit
from blemish.model import Model
from blemish.model.provenance import HISTORY
from conftest import part, write_parts


def write_darker(folder: Path, count: int, seed: int) -> Path:
    """Good parts under another light, and of another size."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    for index in range(count):
        Image.fromarray((0.6 * part(rng, 120)).astype(np.uint8)).save(folder / f"{index:03d}.png")
    return folder


@pytest.fixture(scope="module")
def darker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_darker(tmp_path_factory.mktemp("light") / "good", 19, 20)


def alarms(model: Model, folder: Path) -> int:
    return sum(bool(p.is_anomaly) for p in model.predict(folder))


def test_under_another_light_the_rates_hold_again(model: Model, darker: Path, tmp_path: Path) -> None:
    new = write_darker(tmp_path / "new", 40, 21)
    assert alarms(model, new) == 40, "every part is an alarm under the new light"
    again = blemish.calibrate(model, darker, false_alarm_rate=0.2, box_rate=0.3)
    assert alarms(again, new) <= 15
    assert (again.calibration.rate, again.calibration.box_rate) == (0.2, 0.3)
    assert list(again.calibration.scores) == pytest.approx(sorted(p.score for p in model.predict(darker)))
    assert again.engine is model.engine


def test_a_calibration_on_the_images_of_the_old_one_is_the_old_one(model: Model, darker: Path) -> None:
    once = blemish.calibrate(model, darker)
    twice = blemish.calibrate(once, darker)
    assert np.array_equal(once.calibration.scores, twice.calibration.scores)
    assert np.array_equal(once.calibration.maxima, twice.calibration.maxima)
    assert once.threshold == twice.threshold


def test_the_old_calibration_is_kept_in_a_history_of_bounded_length(
    model: Model, darker: Path, tree: Path, tmp_path: Path
) -> None:
    again = blemish.calibrate(model.at(false_alarm_rate=0.5), darker)
    told = again.provenance
    (former,) = told.history
    assert (former.source, former.images) == (str(tree), 24)
    assert (former.rate, former.threshold) == (0.5, model.at(false_alarm_rate=0.5).threshold)
    assert former.created == model.provenance.created
    assert (told.calibrated_on.source, told.calibrated_on.images, told.calibrated_on.seen) == (str(darker), 19, 0)
    assert again.calibration.rate == 0.5, "what was asked for before is still asked for"
    again.save(tmp_path / "m")
    assert Model.load(tmp_path / "m").provenance == told
    full = again.at()
    full.provenance = replace(told, history=told.history * HISTORY)
    last = blemish.calibrate(full, darker).provenance.history
    assert len(last) == HISTORY
    assert last[-1].source == str(darker)


def test_without_a_rate_the_default_is_that_of_so_many_images(model: Model, darker: Path, tmp_path: Path) -> None:
    assert blemish.calibrate(model, darker).calibration.rate == pytest.approx(1 / 20)
    few = write_darker(tmp_path / "few", 4, 3)
    assert blemish.calibrate(model, few).calibration.box_rate == pytest.approx(1 / 5)
    by_hand = blemish.calibrate(model.at(threshold=3.0), darker)
    assert by_hand.calibration.given_threshold is None, "a threshold for other images says nothing of these"


def test_images_of_the_fit_are_counted_wherever_they_lie(model: Model, tree: Path, tmp_path: Path) -> None:
    good = tree / "train" / "good"
    assert blemish.calibrate(model, good).provenance.calibrated_on.seen == 24
    mixed = write_parts(tmp_path / "mixed", 5, seed=8)
    for name in ("000", "001"):
        shutil.copy(good / f"{name}.png", mixed / f"another_{name}.png")
    again = blemish.calibrate(model, mixed)
    assert again.provenance.calibrated_on.seen == 2
    assert sorted(again.calibration.names)[:2] == ["000.png", "001.png"]


def test_what_cannot_calibrate_is_told_in_one_line(model: Model, darker: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"19 good images cannot promise a false-alarm rate of 0\.01, only 0\.05 "):
        blemish.calibrate(model, darker, false_alarm_rate=0.01)
    with pytest.raises(SettingError, match=r"19 good images cannot promise a box rate of 0\.01, only 0\.05 or more"):
        blemish.calibrate(model, darker, box_rate=0.01)
    with pytest.raises(SourceError, match="has 1 good image to calibrate on; give at least 2"):
        blemish.calibrate(model, write_parts(tmp_path / "one", 1))
    bad = write_parts(tmp_path / "bad", 20)
    for index in range(3):
        (bad / f"{index:03d}.png").write_bytes(b"no image")
    with pytest.raises(BadImagesError, match=r"3 images cannot be used: .*000\.png.*002\.png.*; fix them"):
        blemish.calibrate(model, bad)
    for index in range(20):
        (bad / f"{index:03d}.png").write_bytes(b"no image")
    with pytest.raises(BadImagesError, match="over 10 images"):
        blemish.calibrate(model, bad)
    same = tmp_path / "same"
    same.mkdir()
    for index in range(3):
        shutil.copy(darker / "000.png", same / f"{index}.png")
    with pytest.raises(DegenerateError, match="all 3 images are the same picture"):
        blemish.calibrate(model, same)


def test_photographs_of_another_size_calibrate_a_model_of_tiles(photographs: Path, tmp_path: Path) -> None:
    tiled = blemish.fit(photographs, detector="gaussian", tile=64, layers=[2])
    for place, path in enumerate(sorted((photographs / "train" / "good").iterdir())[:9]):
        Image.open(path).crop((0, 0, 150 + place, 100)).save(tmp_path / f"{place}.png")
    again = blemish.calibrate(tiled, tmp_path)
    assert len(again.calibration.scores) == 9
    assert {p.map.shape for p in again.predict(tmp_path) if p.map is not None} == {(100, 150 + i) for i in range(9)}
    assert alarms(again, photographs / "test" / "animal") == 2


def test_a_refit_after_another_calibration_is_on_the_images_of_the_fit(tree: Path, darker: Path) -> None:
    model = blemish.fit(tree, detector="gaussian", layers=[3], size=64, false_alarm_rate=0.2)
    again = refit(blemish.calibrate(model, darker, box_rate=0.25), Gaussian())
    assert again.provenance.calibrated_on.source == str(tree)
    assert (again.calibration.rate, again.calibration.box_rate) == (0.2, 0.25)
    assert refit(model.at(threshold=1.0), Gaussian()).calibration.rate == 0.2


def test_a_refit_promises_the_lowest_rate_where_one_that_was_asked_for_on_more_images_is_lower(
    tree: Path, tmp_path: Path
) -> None:
    model = blemish.fit(tree, detector="gaussian", layers=[3], size=64)
    more = write_parts(tmp_path / "more", 49, seed=5)
    again = refit(blemish.calibrate(model, more, false_alarm_rate=0.02, box_rate=0.03), Gaussian())
    assert again.calibration.rate == again.calibration.box_rate == pytest.approx(1 / 25)
