"""Training from the weights of a checkpoint of other images."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import blemish
from blemish.datasets import read_source
from blemish.detectors import FREAE, HFR
from blemish.engines.stream import Chunk
from blemish.errors import SettingError, StorageError
from blemish.fitting.cache import FeatureCache
from blemish.fitting.split import Calibrating, divide
from blemish.fitting.trained.kept_features import KeptFeatures
from blemish.fitting.trained.start import Start, find_start
from blemish.images import Geometry, open_photograph
from blemish.model import Model
from blemish.training.checkpoint import read_note
from conftest import write_parts


def fitted(folder: Path, checkpoints: Path, said: list[str] | None = None, **options: object) -> Model:
    detector = options.pop("detector", None) or HFR(width=0.5, epochs=2, batch=8)
    announce = None if said is None else lambda plan: said.append(str(plan))
    return blemish.fit(folder, detector=detector, size=64, checkpoints=checkpoints, announce=announce, **options)  # type: ignore[arg-type]


def log(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 images in `old`, 20 more besides in `more`, and a training on the first in `training`."""
    root = tmp_path_factory.mktemp("grown")
    write_parts(root / "old", 40, size=64)
    shutil.copytree(root / "old", root / "more")
    for file in write_parts(root / "new", 20, seed=1, size=64).iterdir():
        shutil.copy(file, root / "more" / f"new{file.name}")
    fitted(root / "old", root / "training")
    return root


def test_more_images_start_from_its_weights_and_those_it_learned_from_do_not_calibrate(
    first: Path, tmp_path: Path
) -> None:
    training = shutil.copytree(first / "training", tmp_path / "training")
    before = set(read_note(training / "checkpoint")["learned"])
    last, said = log(training)[-1]["loss"], []
    model = fitted(first / "more", training, said, resume=True)
    assert said[0].endswith(
        f"then training from the weights of {training}, with a schedule of its own, whose progress bar shows the time"
    )
    steps = log(training)
    assert [line["step"] for line in steps] == list(range(len(steps)))
    assert steps[0]["loss"] < 1.1 * last < 0.8 * log(first / "training")[0]["loss"]
    note = read_note(training / "checkpoint")
    assert set(note["before"]) == before
    calibrated = set(model.inside.names()) - set(note["learned"]) - before
    assert len(calibrated) == model.provenance.held_out == 20
    again = fitted(first / "more", training, said, resume=True)
    assert "from the weights" not in said[1], "it is the same training now"
    assert log(training) == steps
    assert again.calibration.scores.tolist() == model.calibration.scores.tolist()


def test_what_differs_in_more_than_the_images_is_refused(first: Path, tmp_path: Path) -> None:
    training = shutil.copytree(first / "training", tmp_path / "training")
    other = HFR(width=1, epochs=2, batch=8)
    with pytest.raises(StorageError, match=r"another training \(width is 0.5 there, 1.0 here\)"):
        fitted(first / "more", training, resume=True, detector=other)
    with pytest.raises(SettingError, match="has learned from other images, so a cross-fit cannot start from it"):
        fitted(first / "more", training, resume=True, folds=2)
    note = read_note(training / "checkpoint")
    assert note == read_note(first / "training" / "checkpoint"), "it is as it was"


def test_weights_of_other_shapes_are_refused_in_one_line(first: Path, tmp_path: Path) -> None:
    def detector() -> FREAE:
        return FREAE(epochs=1, variance=0.999)

    fitted(first / "old", tmp_path, detector=detector())
    with pytest.raises(StorageError, match="its weights have other shapes than these images need; give another folder"):
        fitted(first / "more", tmp_path, detector=detector(), resume=True)


def test_where_all_images_were_learned_from_none_can_calibrate(first: Path) -> None:
    dataset = read_source(first / "old", 0)
    paths = frozenset(sample.path for sample in dataset.train)
    with pytest.raises(SettingError, match="learned from all these images, so none of them can calibrate"):
        divide(dataset, 0, Calibrating(), crosses=False, trained=True, learned_from=paths)


@given(seed=st.integers(0, 9), learned=st.sets(st.integers(0, 39), max_size=39))
def test_no_image_that_was_learned_from_is_held_out_and_none_is_lost(first: Path, seed: int, learned: set[int]) -> None:
    dataset = read_source(first / "old", 0)
    paths = [sample.path for sample in dataset.train]
    barred = frozenset(paths[index] for index in learned)
    found = divide(dataset, seed, Calibrating(), crosses=False, trained=True, learned_from=barred)
    assert not barred & {sample.path for sample in found.to_calibrate}
    assert len(found.to_calibrate) == min(20, 40 - len(learned))
    assert sorted(sample.path for sample in found.all) == sorted(paths)


def test_images_are_known_by_their_pixels_under_other_names_and_in_tiles(first: Path, tmp_path: Path) -> None:
    training = first / "training" / "checkpoint"
    copied = shutil.copy(first / "old" / "000.png", tmp_path / "renamed.png")
    (tmp_path / "broken.png").write_text("none")
    start = find_start(first / "training", True, [copied], crosses=False)
    assert start.warm
    assert start.before == frozenset(read_note(training)["learned"])
    geometry = Geometry(64, 64)
    known = start.learned_from([*sorted((first / "old").iterdir()), copied, tmp_path / "broken.png"], geometry)
    assert len(known - {copied}) == 20
    assert (copied in known) == (first / "old" / "000.png" in known)
    tiles = Geometry(32, 32, tile=32, overlap=0)
    assert not start.learned_from([copied], tiles)
    assert not Start().learned_from([copied], tiles)
    with open_photograph(copied, tiles) as photograph:
        assert Start(before=frozenset([photograph.digest])).learned_from([copied], tiles) == {copied}


@pytest.mark.parametrize("known", [0, 55, 60])
def test_training_is_judged_by_images_that_are_new_to_its_weights(known: int) -> None:
    before = frozenset(map(str, range(known)))
    data = KeptFeatures(FeatureCache(1 << 20), 0, before=before)
    arrays = (np.zeros((60, 1, 1, 1), np.float32),)
    data.keep(Chunk(list(range(60)), [], arrays, {}, [False] * 60, {index: str(index) for index in range(60)}))
    held = set(data._held)
    assert len(held) == min(6, 60 - known)
    assert not held & set(range(known))
    assert len(data) == 60 - len(held)
