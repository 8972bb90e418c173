"""The comparison of an export with its model, on exports that differ by a known share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import blemish
from blemish.engines import Arrays, Engine
from blemish.errors import ExportError
from blemish.export.checking import compare, images_to_check
from blemish.images import Location
from exports import model_of, parts


@dataclass
class Altered:
    """An engine whose scores and maps are multiplied."""

    engine: Engine
    score: float = 1.0
    map: float = 1.0
    name: str = "altered"

    def run(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[Arrays]:
        for scores, maps in self.engine.run(batches):
            yield self.score * scores, self.map * maps


@pytest.fixture(scope="module")
def model() -> blemish.Model:
    return model_of("gaussian")


@pytest.fixture(scope="module")
def images(model: blemish.Model) -> Sequence[Location]:
    return images_to_check(model, None)


def test_the_images_are_those_that_calibrated_from_the_lowest_score_to_the_highest(
    model: blemish.Model, images: Sequence[Location]
) -> None:
    names = [path.name for path in images if isinstance(path, Path)]
    assert len(set(names)) == 16
    assert names[0] == model.calibration.names[0]
    assert names[-1] == model.calibration.names[-1]
    assert images_to_check(model, str(parts() / "003.png")) == [parts() / "003.png"]


@pytest.mark.parametrize(("score", "map"), [(1.0009, 1.0), (0.9991, 1.0), (1.0, 1.0019)])
def test_small_differences_are_told(score: float, map: float, model: blemish.Model, images: Sequence[Location]) -> None:
    found = compare(model, Altered(model.engine, score, map), "x 1", images, 1e-3, None)
    assert found.score_largest == pytest.approx(abs(score - 1), rel=1e-3, abs=1e-7)
    assert found.score_mean == pytest.approx(abs(score - 1), rel=1e-3, abs=1e-7)
    assert found.map_largest <= abs(map - 1) + 1e-6
    assert (found.map_largest > 0) == (map != 1)
    assert "checked on 16 images in x 1: scores differ by" in str(found)


@pytest.mark.parametrize(("score", "map"), [(1.0011, 1.0), (0.9989, 1.0), (1.0, 1.005), (np.nan, 1.0), (1.0, np.nan)])
def test_larger_ones_are_refused(score: float, map: float, model: blemish.Model, images: Sequence[Location]) -> None:
    with pytest.raises(ExportError, match="so it is not written"):
        compare(model, Altered(model.engine, score, map), "x 1", images, 1e-3, None)


def test_a_verdict_that_changes_is_named_unless_rounding_explains_it(
    model: blemish.Model, images: Sequence[Location]
) -> None:
    (score,) = (prediction.score for prediction in model.judge(images[-1:]))
    near = model.at(threshold=score * (1 + 5e-5))
    assert compare(near, Altered(model.engine, 1.0009), "x 1", images, 1e-3, None).flipped == ()
    far = model.at(threshold=score * (1 + 5e-4))
    (named,) = compare(far, Altered(model.engine, 1.0009), "x 1", images, 1e-3, None).flipped
    assert named == str(images[-1])
