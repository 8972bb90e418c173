"""Whatever tells a place tells it in the image's own pixels: x to the right, y down, from the top left corner."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import blemish
from blemish.detectors import Gaussian
from blemish.model import Model
from command import inside

TOP, LEFT, BOTTOM, RIGHT = 100, 150, 112, 168
"""Where the animal of the made-up photographs is."""

WAYS = {
    "whole": ({"size": 96}, 10),
    "cropped": ({"size": 96, "crop": 80}, 10),
    "in tiles": ({"tile": 64, "overlap": 16}, 1),
    "in tiles that are enlarged": ({"tile": 64, "overlap": 16, "size": 96}, 1),
}
"""Options of the fit, and how many times as large the photograph is that is looked at."""


@pytest.fixture(scope="module", params=WAYS)
def seen(
    request: pytest.FixtureRequest, photographs: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Model, Path, Path, int]:
    """A model, its folder, a photograph with an animal, and how many times as large it is."""
    options, times = WAYS[request.param]
    folder = tmp_path_factory.mktemp("places")
    model = blemish.fit(photographs, detector=Gaussian(smoothing=0), layers=[1, 2], **options)  # type: ignore[arg-type]
    model.save(folder / "fields.blemish")
    with Image.open(photographs / "test" / "animal" / "0.png") as photograph:
        size = (photograph.width * times, photograph.height * times)
        photograph.resize(size, Image.Resampling.NEAREST).save(folder / "large.png")
    return model, folder / "fields.blemish", folder / "large.png", times


def at_the_animal(x: float, y: float, times: int) -> bool:
    """Whether a place is in the animal or a few pixels beside it, since maps are coarse."""
    beside = 10
    return (LEFT - beside) * times <= x < (RIGHT + beside) * times and (TOP - beside) * times <= y < (
        BOTTOM + beside
    ) * times


def test_predict_and_explain_tell_the_same_place(
    seen: tuple[Model, Path, Path, int], capsys: pytest.CaptureFixture[str]
) -> None:
    model, folder, photograph, times = seen
    (prediction,) = model.predict(photograph)
    assert prediction.is_anomaly
    box = prediction.boxes[0]
    assert at_the_animal((box.left + box.right) / 2, (box.top + box.bottom) / 2, times)
    found = model.explain(photograph)
    assert at_the_animal(*found.place, times)
    own = found.boxes_in_image[0]
    assert at_the_animal((own.left + own.right) / 2, (own.top + own.bottom) / 2, times)
    if found.tile is None:
        assert own == box
    told = json.loads(inside(capsys, "explain", folder, photograph, "--json").stdout)
    assert (told["peak"]["x"], told["peak"]["y"]) == found.place
    assert (told["boxes"][0]["left"], told["boxes"][0]["top"]) == (own.left, own.top)
    text = inside(capsys, "explain", folder, photograph).stdout.splitlines()[0]
    assert [*map(int, re.search(r"map largest at x (\d+), y (\d+)", text).groups())] == [*found.place]  # type: ignore[union-attr]
    (lines,) = inside(capsys, "predict", folder, photograph, "--json").stdout.splitlines()
    assert json.loads(lines)["boxes"][0]["left"] == box.left


def test_the_tile_that_is_explained_is_named_where_it_lies(
    seen: tuple[Model, Path, Path, int], capsys: pytest.CaptureFixture[str]
) -> None:
    model, folder, photograph, _ = seen
    found = model.explain(photograph)
    text = inside(capsys, "explain", folder, photograph).stdout.splitlines()[0]
    told = found.as_dict()
    if model.recipe.geometry.tile is None:
        assert "tile" not in text
        assert "tile" not in told
        return
    x, y, side = told["tile"].values()
    assert f" of the tile of {side} pixels at x {x}, y {y}" in text
    with Image.open(photograph) as whole:
        cut = np.asarray(whole.convert("RGB").crop((x, y, x + side, y + side)).resize(found.image.shape[1::-1]))
    assert np.abs(cut.astype(int) - found.image).mean() < 3
