"""Bad images among the good ones are named, and left out if that is asked for."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import blemish
from blemish.datasets import read_source
from blemish.errors import SettingError
from blemish.fitting import find_suspects
from blemish.fitting.refit import refit
from conftest import part, scratched, write_parts

BAD = [f"bad{index}.png" for index in range(4)]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_parts(tmp_path_factory.mktemp("mixed") / "good", 80)
    rng = np.random.default_rng(5)
    for name in BAD:
        Image.fromarray(scratched(rng)[0]).save(folder / name)
    return folder


@pytest.mark.parametrize("detector", ["fre", "padim", "gaussian", "spade"])
def test_bad_images_are_named(mixed: Path, detector: str) -> None:
    model = blemish.fit(mixed, detector=detector, size=64, engine="torch", copies=0)
    assert {name for name, _ in model.calibration.suspicious} == set(BAD)


def test_a_trimmed_model_is_the_one_of_the_good_images(mixed: Path, tmp_path: Path) -> None:
    good = tmp_path / "good"
    good.mkdir()
    for path in mixed.iterdir():
        if path.name not in BAD:
            (good / path.name).write_bytes(path.read_bytes())
    options = {"size": 64, "engine": "torch", "copies": 1}
    trimmed = blemish.fit(mixed, trim=True, **options)  # type: ignore[arg-type]
    clean = blemish.fit(good, **options)  # type: ignore[arg-type]
    assert set(trimmed.provenance.trimmed) == set(BAD)
    assert trimmed.provenance.images == len(trimmed.calibration.scores) == 80
    assert trimmed.calibration.names == clean.calibration.names
    np.testing.assert_allclose(trimmed.calibration.scores, clean.calibration.scores, rtol=1e-3)
    scores = [[found.score for found in model.predict(mixed)] for model in (trimmed, clean)]
    np.testing.assert_allclose(*scores, rtol=1e-3)
    assert [found.is_known for found in trimmed.predict([mixed / BAD[0], mixed / "000.png"])] == [False, True]


def test_what_was_trimmed_is_saved_and_fitted_without_again(mixed: Path, tmp_path: Path) -> None:
    model = blemish.fit(mixed, detector="gaussian", size=64, engine="torch", copies=0, trim=True)
    model.save(tmp_path / "model")
    loaded = blemish.load(tmp_path / "model")
    assert loaded.provenance.trimmed == model.provenance.trimmed
    again = refit(loaded, type(model.learned.detector)(smoothing=2.0))
    assert set(again.provenance.trimmed) == set(BAD)


def test_leaving_out_more_than_half_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from blemish.calibration import gathered

    folder = write_parts(tmp_path / "good", 12)
    monkeypatch.setattr(gathered, "suspicious", lambda scores: scores > np.median(scores) * 0.99)
    with pytest.raises(SettingError, match=r"of 12 images look anomalous, so fewer than half would be left"):
        blemish.fit(folder, size=64, engine="torch", copies=0, trim=True)


def write_copies(folder: Path) -> Path:
    """Twenty copies of a part, and two other parts."""
    write_parts(folder, 3)
    for index in range(19):
        shutil.copy(folder / "000.png", folder / f"copy{index}.png")
    return folder


def test_where_trimming_leaves_too_few_for_the_rate_the_error_says_so(mixed: Path) -> None:
    with pytest.raises(SettingError, match=r"there are 80 \(4 left out\), which allow"):
        blemish.fit(mixed, size=64, engine="torch", copies=0, trim=True, false_alarm_rate=0.012)


def test_suspicious_images_within_one_file_are_found_by_their_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    images = np.stack([*(part(rng, 48)[..., 0] for _ in range(30)), 255 - part(rng, 48)[..., 0]])
    kinds = np.zeros(31, np.int64)
    np.savez(tmp_path / "parts.npz", x_train=images, y_train=kinds, x_test=images[:2], y_test=kinds[:2])
    monkeypatch.chdir(tmp_path)
    _, paths = find_suspects(read_source("one_class:parts.npz:0"))
    assert paths == [Path("parts.npz/x_train/30")]


@pytest.mark.parametrize("options", [{"calibration": "hold-out"}, {"detector": "hfr", "settings": {"epochs": 1}}])
def test_trimming_needs_cross_fitted_scores(mixed: Path, options: dict[str, object]) -> None:
    with pytest.raises(SettingError, match="--trim needs a cross-fit and a detector that learns in one pass"):
        blemish.fit(mixed, size=64, engine="torch", trim=True, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("detector", ["hfr", "vae"])
def test_a_trained_detector_is_trained_again_for_each_fold(tmp_path: Path, detector: str) -> None:
    folder = write_parts(tmp_path / "good", 12)
    settings = {"epochs": 1, "drawn": 12} if detector == "vae" else {"epochs": 1}
    model = blemish.fit(
        folder, detector=detector, settings=settings, size=64, engine="torch", folds=3, checkpoints=tmp_path / "c"
    )
    assert model.calibration.folds == 3
    assert sorted(model.calibration.names) == sorted(path.name for path in folder.iterdir())
    assert {"fold1", "fold2", "fold3", "checkpoint"} <= {path.name for path in (tmp_path / "c").iterdir()}
