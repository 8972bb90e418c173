from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import blemish
from blemish.datasets import read_source
from blemish.detectors import Gaussian
from blemish.errors import SourceError
from blemish.fitting import Plan, refit
from blemish.fitting.choices import choose
from blemish.fitting.split import images_digest
from blemish.images import Geometry
from conftest import write_parts


def test_the_digest_of_images_knows_names_and_sizes_and_neither_their_order_nor_their_place(tmp_path: Path) -> None:
    write_parts(tmp_path / "a" / "left", 2)
    write_parts(tmp_path / "a" / "right", 2, seed=1)
    paths = sorted((tmp_path / "a").rglob("*.png"))
    digest = images_digest(paths)
    assert images_digest(paths[::-1]) == digest
    (tmp_path / "a").rename(tmp_path / "b")
    moved = sorted((tmp_path / "b").rglob("*.png"))
    assert images_digest(moved) == digest
    assert images_digest(moved[1:]) != digest
    with moved[0].open("ab") as file:
        file.write(b"x")
    longer = images_digest(moved)
    assert longer != digest
    assert images_digest([*moved[1:], moved[0].rename(moved[0].with_name("new.png"))]) != longer


def test_the_digest_is_the_same_from_within_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = sorted(write_parts(tmp_path / "a", 3).iterdir())
    monkeypatch.chdir(tmp_path / "a")
    assert images_digest([Path(path.name) for path in paths]) == images_digest(paths)


def test_of_images_in_a_file_of_many_the_size_of_the_file_counts(tmp_path: Path) -> None:
    members = [tmp_path / "a.npz" / "x_train" / str(number) for number in range(3)]
    np.savez(tmp_path / "a.npz", x_train=np.zeros((4, 8, 8), np.uint8))
    digest = images_digest(members)
    assert images_digest(members[1:]) != digest
    np.savez(tmp_path / "a.npz", x_train=np.zeros((5, 8, 8), np.uint8))
    assert images_digest(members) != digest


def test_images_that_cannot_be_read_have_a_digest_too(tmp_path: Path) -> None:
    paths = [*write_parts(tmp_path / "a", 2).iterdir(), tmp_path / "a" / "gone.png", tmp_path / "a" / "0"]
    assert images_digest(paths) != images_digest(paths[:2])


def test_a_refit_takes_the_same_images_and_no_others(tree: Path, tmp_path: Path) -> None:
    model = blemish.fit(f"folder:{tree / 'train'}", detector="gaussian", size=64, layers=[2])
    assert model.provenance.images_digest == images_digest(sorted((tree / "train").rglob("*.png")))
    again = refit(model, Gaussian())
    assert np.allclose(again.calibration.scores, model.calibration.scores, rtol=1e-5)
    assert again.provenance.images_digest == model.provenance.images_digest
    with pytest.raises(SourceError, match=r"holds other images than the model was fitted on \(34 now, 24 then\)"):
        refit(model, Gaussian(), read_source(f"folder:{write_parts(tmp_path / 'others', 34)}"))


def test_a_model_of_one_class_finds_its_images_again(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (12, 28, 28), dtype=np.uint8)
    labels = np.arange(12) % 2
    np.savez(tmp_path / "a.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    model = blemish.fit(f"one_class:{tmp_path / 'a.npz'}:1", detector="gaussian", size=64, layers=[2])
    assert refit(model, Gaussian()).provenance.images == 6


def test_a_refit_keeps_the_rate_that_was_asked_for_since(tree: Path) -> None:
    model = blemish.fit(tree, detector="gaussian", layers=[3], size=64)
    assert refit(model, Gaussian()).provenance.asked_false_alarm_rate is None
    model.calibration = replace(model.calibration, rate=0.3)
    again = refit(model, Gaussian())
    assert (again.calibration.rate, again.threshold) == (0.3, model.threshold)


def test_the_input_has_the_proportions_of_the_images_and_as_many_pixels_as_the_size(
    long_model: blemish.Model, long_tree: Path
) -> None:
    assert long_model.recipe.geometry == Geometry(32, 96)
    (prediction,) = long_model.predict(long_tree / "test" / "scratch" / "000.png")
    assert prediction.map is not None
    assert prediction.map.shape == (32, 96)
    told: list[Plan] = []
    again = blemish.fit(long_tree, detector="gaussian", size="64", layers=[1, 2], announce=told.append)
    assert again.recipe == long_model.recipe
    assert "24 images at 32x96" in str(told[0])


def test_a_height_and_width_are_taken_whatever_the_images_are(long_tree: Path) -> None:
    squashed = blemish.fit(long_tree, detector="gaussian", size="64x64", layers=[1])
    assert squashed.recipe.geometry == Geometry(64, 64)


@pytest.mark.parametrize(
    ("given", "expected", "in_proportion"),
    [
        ({}, Geometry(), True),
        ({"size": 96}, Geometry(96, 96), True),
        ({"size": "96"}, Geometry(96, 96), True),
        ({"size": "96x96"}, Geometry(96, 96), False),
        ({"size": "64X96"}, Geometry(64, 96), False),
        ({"size": 96, "crop": 64}, Geometry(96, 96, 64), False),
        ({"tile": 128}, Geometry(128, 128, tile=128, overlap=32), False),
        ({"size": 64, "tile": 128}, Geometry(64, 64, tile=128, overlap=32), False),
        ({"preset": "fre-lite0-1l"}, Geometry(), False),
        ({"preset": "padim-r18-rd100"}, Geometry(256, 256, 224), False),
        ({"preset": "fre-lite0-1l", "size": 128}, Geometry(128, 128), True),
    ],
)
def test_only_a_size_of_one_number_without_crop_or_tiles_takes_the_images_proportions(
    given: dict[str, object], expected: Geometry, in_proportion: bool
) -> None:
    rest = dict.fromkeys(
        ("detector", "settings", "backbone", "layers", "size", "crop", "tile", "overlap", "preset", "quality")
    )
    chosen = choose(**{**rest, **given}, weights=False, seed=0)  # type: ignore[arg-type]
    assert (chosen.geometry, chosen.in_proportion) == (expected, in_proportion)


def test_a_refit_keeps_the_shape_of_the_input(long_tree: Path) -> None:
    squashed = blemish.fit(long_tree / "train" / "good", detector="gaussian", size="64x96", layers=[1])
    assert refit(squashed, Gaussian()).recipe.geometry == Geometry(64, 96)


@pytest.mark.parametrize("detector", ["vae", "vae-grf", "hfr", "spade", "padim", "fre"])
def test_every_detector_takes_images_that_are_not_square(long_tree: Path, detector: str) -> None:
    trained = {"vae": {"latent": 8, "drawn": 16}, "vae-grf": {"latent": 8, "drawn": 16}, "hfr": {}}
    quick = {**trained[detector], "epochs": 1, "batch": 8, "patience": None} if detector in trained else {}
    model = blemish.fit(long_tree, detector=detector, settings=quick, size=64)
    for prediction in model.predict(long_tree):
        assert prediction.map is not None
        assert prediction.map.shape == (32, 96)


def test_bad_images_do_not_change_the_shape(long_tree: Path, tmp_path: Path) -> None:
    for path in (long_tree / "train" / "good").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    for number in range(30):
        (tmp_path / f"bad{number}.png").write_bytes(b"no image")
    model = blemish.fit(tmp_path, detector="gaussian", size=64, layers=[1], skip_bad=True)
    assert model.recipe.geometry == Geometry(32, 96)
