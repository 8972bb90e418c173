from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import blemish
from blemish.datasets import Dataset, read_source
from blemish.errors import SettingError, SourceError
from blemish.model import Model


@pytest.fixture(scope="module")
def parts(tree: Path) -> Dataset:
    return read_source(tree, 0)


def scores(model: Model, dataset: Dataset) -> list[float]:
    return [prediction.score for prediction in model.judge([sample.path for sample in dataset.test])]


def test_the_same_map_again_gives_the_same_model(vae_model: Model, parts: Dataset) -> None:
    again = blemish.with_map(vae_model, "mad", parts)
    assert again.threshold == pytest.approx(vae_model.threshold, rel=1e-3)
    assert again.calibration.digests == vae_model.calibration.digests
    assert scores(again, parts) == pytest.approx(scores(vae_model, parts), rel=1e-2, abs=1e-2)
    assert again.provenance.changes == vae_model.provenance.changes


@pytest.mark.parametrize("map", ["l2", "gradient"])
def test_another_map_has_the_same_network_and_a_calibration_of_its_own(
    vae_model: Model, parts: Dataset, tmp_path: Path, map: str
) -> None:
    other = blemish.with_map(vae_model, map, parts, standardised=False)
    assert other.recipe.settings == {**vae_model.recipe.settings, "map": map, "standardised": False}
    assert vae_model.recipe.settings["map"] == "mad"
    assert vae_model.learned.detector.settings()["map"] == "mad"
    weights, others = (model.learned.detector.networks()["network"].state_dict() for model in (vae_model, other))
    assert all(torch.equal(weights[name], others[name]) for name in weights)
    assert len(other.calibration.scores) == len(vae_model.calibration.scores)
    assert other.threshold == pytest.approx(float(np.max(other.calibration.scores)), rel=1e-3)
    assert other.calibration.rate == vae_model.calibration.rate
    assert other.engine.name == ("torch" if map == "gradient" else vae_model.engine.name)
    other.save(tmp_path / "m")
    assert scores(blemish.load(str(tmp_path / "m")), parts) == pytest.approx(scores(other, parts), rel=1e-3)


def test_it_equals_a_fit_with_that_map(vae_model: Model, parts: Dataset) -> None:
    fitted = blemish.fit(parts, detector=blemish.VAEGRF(latent=8, epochs=1, drawn=24, map="sm"), size=64)
    other = blemish.with_map(vae_model, "sm", parts)
    assert other.threshold == pytest.approx(fitted.threshold, rel=0.02)
    assert scores(other, parts) == pytest.approx(scores(fitted, parts), rel=0.02)


def test_what_cannot_have_another_map_is_refused(vae_model: Model, model: Model, parts: Dataset) -> None:
    with pytest.raises(SettingError, match="has no map but its own; give a model of vae or vae-grf"):
        blemish.with_map(model, "sm", parts)
    with pytest.raises(SettingError, match="map is 'loud'; expected mad, sm"):
        blemish.with_map(vae_model, "loud", parts)
    names = set(vae_model.calibration.names)
    left = [sample for sample in parts.train if f"train/good/{sample.path.name}" not in names]
    with pytest.raises(SourceError, match="has 0 of the .* images that calibrate the model; give the source"):
        blemish.with_map(vae_model, "sm", replace(parts, train=left))
