from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from blemish.fitting.trained.spots import SPOTS, Spotted

RNG = np.random.default_rng(0)


def images(count: int = 6, height: int = 96, width: int = 128) -> list[np.ndarray]:
    return [RNG.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(count)]


def test_spots_are_where_the_mask_says_and_nothing_else_changes() -> None:
    normal = images()
    spotted = Spotted.over(normal, 0)
    changed = (spotted.images != np.stack(normal)).any(3)
    assert not changed[~spotted.masks].any()
    assert changed[spotted.masks].mean() > 0.9
    share = spotted.masks.mean()
    assert 0 < share < SPOTS * np.pi * 0.065**2
    assert np.array_equal(spotted.images, Spotted.over(normal, 0).images), "the same by seed"
    assert not np.array_equal(spotted.images, Spotted.over(normal, 1).images)


@pytest.mark.parametrize("cell", [1, 8])
def test_how_well_they_are_found_is_scikit_learns_auroc_by_image(cell: int) -> None:
    spotted = Spotted.over(images(), 0)
    maps = RNG.integers(0, 9, (6, 96 // cell, 128 // cell)).astype(np.float32)
    full = maps.repeat(cell, 1).repeat(cell, 2)
    pairs = zip(spotted.masks, full, strict=True)
    wanted = np.mean([roc_auc_score(mask.ravel(), values.ravel()) for mask, values in pairs])
    assert spotted.found(maps) == pytest.approx(wanted, abs=1e-9)


def test_a_map_that_is_the_mask_finds_all_and_a_flat_one_nothing() -> None:
    spotted = Spotted.over(images(), 0)
    assert spotted.found(spotted.masks.astype(np.float32)) == 1
    assert spotted.found(np.zeros((6, 12, 16), np.float32)) == 0.5


def test_a_map_that_is_not_finite_finds_nothing() -> None:
    spotted = Spotted.over(images(), 0)
    maps = spotted.masks.astype(np.float32)
    maps[0, 0, 0] = np.nan
    assert spotted.found(maps) == 0
