"""Images, weights and numbers of which nothing can be told: they are refused, and nothing is judged good."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

import blemish
from blemish.calibration import Calibration
from blemish.calibration.conformal import ROUNDING
from blemish.detectors import FRE
from blemish.detectors.scoring import Scoring
from blemish.engines.openvino_engine import OpenVINOEngine
from blemish.engines.stream import Chunk, NotFiniteError, whole
from blemish.errors import BadImagesError, BlemishError, DegenerateError, SourceError, WeightsError
from blemish.images import Geometry, Tiling
from conftest import part, scratched


def copies(folder: Path, image: np.ndarray, count: int = 24) -> Path:
    folder.mkdir()
    for index in range(count):
        Image.fromarray(image).save(folder / f"{index:02d}.png")
    return folder


@pytest.mark.parametrize("detector", ["fre", "padim", "gaussian", "hfr", "vae"])
@pytest.mark.parametrize("picture", ["the same part", "black"])
def test_images_that_are_all_the_same_picture_are_refused_in_a_sentence(
    tmp_path: Path, detector: str, picture: str
) -> None:
    image = np.zeros((64, 64, 3), np.uint8) if picture == "black" else part(np.random.default_rng(0), 64)
    for count in (3, 24):
        with pytest.raises(DegenerateError, match=f"all {count} images .* same picture") as caught:
            blemish.fit(copies(tmp_path / f"{count}", image, count), detector=detector, size=64)
        assert "\n" not in str(caught.value)


EVERY = ["fre", "fre-ae", "padim", "gaussian", "spade", "hfr", "vae", "vae-grf"]


@pytest.mark.parametrize("detector", EVERY)
def test_too_few_or_too_alike_images_are_refused_in_a_sentence_before_the_backbone_is_made(
    tmp_path: Path, detector: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("the backbone is made")

    monkeypatch.setattr("blemish.engines.extractor.make_extractor", refuse)
    pictures = [part(np.random.default_rng(seed), 64) for seed in range(3)]
    fewest = {"fre": 2, "gaussian": 2, "spade": 2}.get(detector, 3)

    def said(name: str, *images: np.ndarray) -> str:
        (tmp_path / name).mkdir()
        for index, image in enumerate(images):
            Image.fromarray(image).save(tmp_path / name / f"{index}.png")
        with pytest.raises((BlemishError, RuntimeError)) as caught:
            blemish.fit(tmp_path / name, detector=detector, size=64)
        return str(caught.value).removeprefix(f"{tmp_path / name}: ")

    enough = "the backbone is made"
    assert said("one", pictures[0]) == f"has 1 image to fit; give at least {fewest} good images"
    two = f"has 2 images to fit, and {detector} needs 3; give at least 3 good images"
    assert said("two", *pictures[:2]) == (enough if fewest == 2 else two)
    assert said("three", *pictures) == enough
    assert "all 4 images to fit are the same picture" in said("black", *4 * [np.zeros((64, 64, 3), np.uint8)])
    few = f"the 8 images to fit show only 2 different pictures, and {detector} needs 3; give more different images"
    assert said("alike", *4 * pictures[:2]) == (enough if fewest == 2 else few)


def test_images_that_cannot_be_read_do_not_count_as_enough(tmp_path: Path) -> None:
    Image.fromarray(part(np.random.default_rng(0), 64)).save(tmp_path / "0.png")
    (tmp_path / "1.png").write_bytes(b"cut")
    with pytest.raises(BadImagesError, match=r"1\.png is not an image.*too few are left; give at least 2 good images"):
        blemish.fit(tmp_path, detector="gaussian", size=64, skip_bad=True)


def test_a_layer_that_never_varies_beside_one_that_does_gives_the_same_numbers_on_both_engines() -> None:
    rng = np.random.default_rng(0)
    detector = FRE()
    constant = torch.ones(1, 3, 4, 4)
    features = [torch.from_numpy(rng.normal(size=(8, 5, 8, 8)).astype(np.float32)), constant.expand(8, -1, -1, -1)]
    detector.update(features)

    class Both(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            values = images.permute(0, 3, 1, 2).float() / 100
            return torch.cat([values, values[:, :2]], 1)[:, :, :8, :8], constant + 0 * values[:, :, :4, :4]

    images = rng.integers(0, 256, (3, 32, 32, 3), np.uint8)
    scoring = Scoring(detector, (32, 32))
    engine = OpenVINOEngine.from_module(Both(), 32, 32).then(scoring)
    expected = scoring.arrays(Both()(torch.from_numpy(images)))
    for _ in range(3):
        np.full((64, 1024), np.nan, np.float32)  # what freed memory may hold
        (found,) = engine.run([images])
        for one, other in zip(expected, found, strict=True):
            assert np.allclose(one, other, rtol=1e-3)


def test_weights_that_are_not_finite_are_refused(tree: Path, tmp_path: Path) -> None:
    weights = timm.create_model("resnet18").state_dict()
    weights["layer1.0.conv1.weight"][0, 0, 0, 0] = math.nan
    save_file(weights, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=r"layer1\.0\.conv1\.weight with numbers that are not finite"):
        blemish.fit(tree, backbone="resnet18", size=64, weights=tmp_path / "w.safetensors")


def test_weights_so_large_that_features_are_not_finite_are_refused(tree: Path, tmp_path: Path) -> None:
    weights = {name: tensor * 1e30 if "conv" in name else tensor for name, tensor in
               timm.create_model("resnet18").state_dict().items()}  # fmt: skip
    save_file(weights, tmp_path / "w.safetensors")
    with pytest.raises(DegenerateError, match="not finite"):
        blemish.fit(tree, backbone="resnet18", size=64, weights=tmp_path / "w.safetensors", engine="torch")


class Broken:
    """An engine whose results are not finite for some images."""

    name = "broken"

    def __init__(self, engine: blemish.engines.Engine, bad: float, where: str) -> None:
        self.engine, self.bad, self.where = engine, bad, where

    def run(self, batches: object) -> object:
        for scores, maps, *of_layers in self.engine.run(batches):  # type: ignore[arg-type]
            if self.where == "score":
                scores[::2] = self.bad
            else:
                maps[::2, 3, 4] = self.bad
            yield scores, maps, *of_layers

    @property
    def explainer(self) -> Broken:
        return Broken(self.engine.explainer, self.bad, self.where)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["score", "map"])
def test_an_image_whose_numbers_are_not_finite_is_an_error_and_never_good(
    saved: Path, tree: Path, bad: float, where: str
) -> None:
    model = blemish.load(str(saved))
    model.engine = Broken(model.engine, bad, where)  # type: ignore[assignment]
    found = list(model.predict(tree, errors="keep"))
    assert [prediction.error is not None for prediction in found] == 5 * [True, False]
    for prediction in found[::2]:
        assert prediction.is_anomaly is None
        assert prediction.map is None
        assert "not finite" in str(prediction.error)
    with pytest.raises(DegenerateError, match="not finite"):
        model.explain(tree / "test" / "good" / "000.png")


def test_a_tile_whose_score_is_not_finite_is_not_lost_among_the_others() -> None:
    places = Tiling(32, 0).places(32, 96)
    scores, maps = np.array([1, math.nan, 2], np.float32), np.zeros((3, 32, 32), np.float32)
    chunk = Chunk([0, 0, 0], places, (scores, maps), {}, [False] * 3, {0: "0" * 16})
    (scored,) = whole([chunk], Geometry(32, 32, tile=32))
    assert scored.map is None
    assert isinstance(scored.error, NotFiniteError)


def test_an_evaluation_of_nothing_but_such_images_is_an_error(saved: Path, tree: Path) -> None:
    model = blemish.load(str(saved))
    for bad in (math.nan, math.inf):
        model.engine = Broken(model.engine, bad, "score")  # type: ignore[assignment]
    model.engine.run = lambda batches: (  # type: ignore[method-assign]
        (np.full(len(images), math.nan, np.float32), np.zeros((len(images), 64, 64), np.float32)) for images in batches
    )
    with pytest.raises(SourceError, match="none of its 10 test images"):
        blemish.evaluate(model, tree)


def test_what_was_learned_is_checked_before_it_scores_anything() -> None:
    detector = FRE(variance=0.5)
    detector.update([torch.randn(4, 2, 3, 3)])
    detector.subspaces_[0].mean[0] = math.inf
    with pytest.raises(DegenerateError, match="what fre learned is not finite"):
        Scoring(detector, (32, 32))


def test_a_score_that_differs_from_the_threshold_by_rounding_alone_is_normal() -> None:
    scores = np.sort(np.random.default_rng(0).normal(10, 1, 99))
    calibration = Calibration(scores, np.zeros(99), np.ones(99), 0.05, 0.1)
    highest_normal = scores[94]
    for score, anomalous in ((highest_normal * (1 + ROUNDING / 2), False), (highest_normal * (1 + 2 * ROUNDING), True)):
        assert (score > calibration.threshold) == anomalous
        assert (calibration.p_values([score])[0] <= 0.05) == anomalous


def write_few(folder: Path, pictures: list[Any]) -> Path:
    folder.mkdir()
    for index in range(48):
        Image.fromarray(pictures[index % len(pictures)]).save(folder / f"{index:02d}.png")
    return folder


def test_a_trained_detector_that_would_have_no_other_picture_to_calibrate_on_says_so(tmp_path: Path) -> None:
    folder = write_few(tmp_path / "good", [part(np.random.default_rng(seed), 64) for seed in range(3)])
    stages = set()
    with pytest.raises(DegenerateError, match="45 images are the same as others, so too few are left"):
        blemish.fit(
            folder, detector="hfr", size=64, settings={"epochs": 1}, progress=lambda stage, *_: stages.add(stage)
        )
    assert stages == {"fit"}, "it is said before the training"


@pytest.mark.parametrize("detector", ["gaussian", "fre", "padim"])
def test_of_a_few_pictures_seen_many_times_none_is_an_anomaly(tmp_path: Path, detector: str) -> None:
    rng = np.random.default_rng(3)
    pictures = [part(rng, 64) for _ in range(3)]
    model = blemish.fit(write_few(tmp_path / "good", pictures), detector=detector, size=64)
    *normal, other = model.predict([*pictures, scratched(rng, 64)[0]])
    assert [prediction.is_anomaly for prediction in normal] == [False, False, False]
    assert other.score > max(prediction.score for prediction in normal)


FORKED = """
import os, signal, sys, blemish
model = blemish.load(sys.argv[1])
list(model.predict(sys.argv[2]))
if os.fork() == 0:
    signal.alarm(60)  # it would wait for ever
    for model in (model, blemish.load(sys.argv[1])):
        try:
            list(model.predict(sys.argv[2]))
        except blemish.BlemishError as error:
            print(error, flush=True)
    os._exit(0)
print(os.wait()[1])
print(len(list(model.predict(sys.argv[2]))))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_says_that_it_cannot_predict_rather_than_wait_for_ever(saved: Path, tree: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", FORKED, str(saved), str(tree)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    first, second, status, count = done.stdout.splitlines()
    assert first == second
    assert "spawn" in first
    assert (status, count) == ("0", "10")
