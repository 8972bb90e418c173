"""The layer `avgpool`: the mean of a network's last level."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch

import blemish
from blemish.backbones.backbone import Backbone
from blemish.detectors import FRE
from blemish.detectors.scoring import Scoring


@pytest.mark.parametrize("layers", [["avgpool"], ["avgpool", "layer2"], [1, "avgpool", 4]])
def test_it_is_the_mean_of_the_last_level_over_all_positions(layers: list[int | str]) -> None:
    torch.manual_seed(0)
    weights = timm.create_model("resnet18").state_dict()
    pixels = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    found = Backbone("resnet18", layers, weights)(pixels)[layers.index("avgpool")]
    (last,) = Backbone("resnet18", [4], weights)(pixels)
    assert found.shape == (2, 512, 1, 1)
    torch.testing.assert_close(found[:, :, 0, 0], last.mean((2, 3)))


def test_it_gives_fre_a_score_and_a_map_without_places() -> None:
    generator = torch.Generator().manual_seed(0)
    pooled = torch.randn(30, 16, 1, 1, generator=generator)
    scores, maps = Scoring(FRE(power=1, variance=0.8).update([pooled]), (32, 24)).arrays([pooled[:4]])
    assert maps.shape == (4, 32, 24)
    np.testing.assert_allclose(maps, np.broadcast_to((scores**2)[:, None, None], maps.shape), rtol=1e-4)


def test_a_model_of_it_is_fitted_saved_and_loaded(tree: Path, tmp_path: Path) -> None:
    model = blemish.fit(tree, layers=["avgpool"], size=64, copies=0, engine="openvino")
    assert model.recipe.grids == [(320, 1, 1)]
    model.save(tmp_path / "m.blemish")
    image = sorted((tree / "test" / "scratch").glob("*.png"))[0]
    (found,), (again,) = list(model.predict(image)), list(blemish.load(tmp_path / "m.blemish").predict(image))
    assert found.score == again.score
