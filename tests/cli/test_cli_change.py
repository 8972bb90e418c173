"""`blemish update`, `merge` and `forget` as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import blemish
from blemish.cli import change
from blemish.errors import StorageError
from blemish.model import Model
from command import inside
from conftest import scratched, write_parts

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of 30 parts and of 10 others."""
    folder = tmp_path_factory.mktemp("growing")
    return write_parts(folder / "first", 30), write_parts(folder / "more", 10, seed=7)


@pytest.fixture(scope="module")
def fitted(places: tuple[Path, Path]) -> tuple[Model, Model]:
    one, two = (blemish.fit(place, detector="padim", size=64) for place in places)
    return one, two


@pytest.fixture
def saved(fitted: tuple[Model, Model], tmp_path: Path) -> Path:
    fitted[0].save(tmp_path / "m")
    return tmp_path / "m"


def test_a_model_is_updated_in_place_and_says_how_the_threshold_moved(
    capsys: Capture, places: tuple[Path, Path], saved: Path
) -> None:
    done = inside(capsys, "update", saved, places[1])
    assert done.returncode == 0, done.stderr
    assert "learned from 10 new images, 40 in all" in done.stdout
    assert "before: 30 scores calibrate" in done.stdout
    assert "now: 40 scores calibrate" in done.stdout
    assert len(blemish.load(saved).inside) == 40
    again = inside(capsys, "update", saved, places[1])
    assert "10 images were in the model already and not counted again" in again.stdout


def test_images_are_forgotten_and_the_former_model_is_back(
    capsys: Capture, places: tuple[Path, Path], saved: Path, tmp_path: Path
) -> None:
    before = blemish.load(saved)
    assert inside(capsys, "update", saved, places[1], "-o", tmp_path / "n").returncode == 0
    done = inside(capsys, "forget", tmp_path / "n", places[1])
    assert "forgot 10 images, 30 are left" in done.stdout
    assert blemish.load(tmp_path / "n").threshold == pytest.approx(before.threshold, rel=1e-6)
    refused = inside(capsys, "forget", tmp_path / "n", places[1])
    assert refused.returncode == 1
    assert "the model has not learned from 10 of 10 images (000.png" in refused.stderr
    assert blemish.load(saved).inside.names() == before.inside.names()


def test_models_are_merged_into_a_new_one(
    capsys: Capture, fitted: tuple[Model, Model], saved: Path, tmp_path: Path
) -> None:
    fitted[1].save(tmp_path / "other")
    done = inside(capsys, "merge", saved, tmp_path / "other", "-o", tmp_path / "both", "--json")
    told = json.loads(done.stdout)
    assert (told["change"], told["images"], told["inside"], told["scores"]) == ("merge", 10, 40, 40)
    assert "exists already" in inside(capsys, "merge", saved, tmp_path / "other", "-o", tmp_path / "both").stderr
    one = inside(capsys, "merge", saved, "-o", tmp_path / "one")
    assert "give two models or more. See blemish merge --help" in one.stderr


def test_what_looks_anomalous_is_named_with_its_p_value(capsys: Capture, saved: Path, tmp_path: Path) -> None:
    new = write_parts(tmp_path / "new", 5, seed=11)
    Image.fromarray(scratched(np.random.default_rng(3))[0]).save(new / "bad.png")
    done = inside(capsys, "update", saved, new, "-o", tmp_path / "n")
    assert "warning:" in done.stderr
    assert "bad.png (p 0.032)" in done.stderr
    assert "update the earlier model again with --only-good" in done.stderr
    left = inside(capsys, "update", saved, new, "-o", tmp_path / "l", "--only-good", "--json")
    told = json.loads(left.stdout)
    assert told["left_out"] is True
    assert told["anomalous"] + told["images"] == 6


def test_after_an_update_in_place_the_advice_is_one_that_the_detector_can_follow(
    capsys: Capture, places: tuple[Path, Path], saved: Path, tmp_path: Path
) -> None:
    Image.fromarray(scratched(np.random.default_rng(3))[0]).save(tmp_path / "bad.png")
    done = inside(capsys, "update", saved, tmp_path / "bad.png")
    assert "bad.png (p 0.032); look at them; if they are anomalous, take them out with `blemish forget`" in done.stderr
    assert inside(capsys, "forget", saved, tmp_path / "bad.png").returncode == 0
    refused = inside(capsys, "forget", saved, tmp_path / "bad.png")
    assert "the model has not learned from 1 of 1 image (bad.png)" in refused.stderr
    blemish.fit(places[0], detector="fre", size=64, copies=0).save(tmp_path / "fre")
    done = inside(capsys, "update", tmp_path / "fre", tmp_path / "bad.png")
    assert "if they are anomalous, fit again without them, since fre cannot forget" in done.stderr


def test_a_model_that_another_program_changed_meanwhile_is_not_replaced(
    fitted: tuple[Model, Model], places: tuple[Path, Path], saved: Path
) -> None:
    loaded = Model.load(saved)
    changed = loaded.update(places[1])
    loaded.at(box_rate=0.5).save(saved, force=True)
    with pytest.raises(StorageError, match="another program has changed it meanwhile"):
        change._save(changed, loaded, str(saved), replacing=True)
    with pytest.raises(StorageError, match="another program has changed it meanwhile"):
        change._save(changed, loaded, str(saved.parent / ".." / saved.parent.name / saved.name), replacing=True)


def test_an_update_that_fails_leaves_the_model_as_it_was(capsys: Capture, saved: Path, tmp_path: Path) -> None:
    before = {file.name: file.read_bytes() for file in saved.iterdir()}
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.png").write_bytes(b"no image")
    done = inside(capsys, "update", saved, tmp_path / "bad")
    assert done.returncode == 1
    assert "x.png is not an image" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert {file.name: file.read_bytes() for file in saved.iterdir()} == before
