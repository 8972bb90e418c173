from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from blemish.detectors import FRE
from blemish.detectors.scoring import Scoring
from blemish.engines import BATCH
from blemish.errors import SettingError
from blemish.statistics.subspace import ROOM

GRIDS = [(4, 8, 6), (6, 4, 3), (8, 2, 2)]
SHAPE = (32, 24)


def features(count: int, seed: int = 0) -> list[Tensor]:
    """Features that mostly lie along three directions, the same ones for every seed."""
    noise = torch.Generator().manual_seed(seed)
    made = []
    for grid in GRIDS:
        basis = torch.randn(3, *grid, generator=torch.Generator().manual_seed(grid[0]))
        factors = torch.randn(count, 3, generator=noise)
        made.append(
            5 + torch.einsum("nk,kchw->nchw", factors, basis) + 0.3 * torch.randn(count, *grid, generator=noise)
        )
    return made


def residual(train: Tensor, fresh: Tensor, share: float) -> np.ndarray:
    """FRE's eq. 2 by numpy's SVD: u - T_inv(T(u)), squared and summed over channels, (B, h, w)."""
    known, new = train.flatten(1).double().numpy(), fresh.flatten(1).double().numpy()
    mean = known.mean(0)
    _, singular, directions = np.linalg.svd(known - mean, full_matrices=False)
    rank = int((np.cumsum(singular**2) / (singular**2).sum() < share).sum()) + 1
    transform = directions[:rank]  # T, and its inverse is its transpose (eq. 1 at the optimum)
    left = new - mean - (new - mean) @ transform.T @ transform
    return (left.reshape(fresh.shape) ** 2).sum(1)


def resized(maps: np.ndarray, interpolation: str) -> np.ndarray:
    grown = F.interpolate(torch.from_numpy(maps)[:, None], SHAPE, mode=interpolation, align_corners=False)
    return grown[:, 0].numpy()


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (1.0, 2.0, 1.0)])
def test_a_product_is_eq_3_to_the_letter(interpolation: str, weights: tuple[float, ...]) -> None:
    detector = FRE(variance=0.9, power=1, weights=weights, join="product", interpolation=interpolation)
    detector.update(features(40))
    fresh = features(5, 1)
    expected = np.ones((5, *SHAPE))
    for train, new, weight in zip(features(40), fresh, weights, strict=True):
        layer = resized(residual(train, new, 0.9), interpolation).clip(min=0)
        expected *= layer ** (weight / sum(weights))
    scores, maps = Scoring(detector, SHAPE).arrays(fresh)
    np.testing.assert_allclose(maps, expected, rtol=2e-3, atol=1e-4 * expected.max())
    np.testing.assert_allclose(scores, np.sqrt(expected.mean((1, 2)) * 48), rtol=1e-3)  # 8 · 6 positions


def test_of_one_layer_both_ways_to_join_are_the_same_and_on_the_layers_grid() -> None:
    scorings = [Scoring(FRE(variance=0.9, join=join).update(features(40)[:1]), SHAPE) for join in ("product", "logs")]
    (score, maps), (other, others) = (scoring.arrays(features(5, 1)[:1]) for scoring in scorings)
    assert scorings[0].head.grid == (8, 6)
    np.testing.assert_array_equal(score, other)
    np.testing.assert_array_equal(maps, others)


def test_a_smoothed_product_is_the_product_that_was_smoothed() -> None:
    plain, smoothed = (
        Scoring(FRE(join="product", smoothing=smoothing).update(features(40)), SHAPE) for smoothing in (0.0, 20.0)
    )
    (score, maps), (same, smooth) = plain.arrays(features(5, 1)), smoothed.arrays(features(5, 1))
    np.testing.assert_array_equal(score, same)
    assert smooth.std() < maps.std()
    np.testing.assert_allclose(smooth.mean(), maps.mean(), rtol=0.05)


def test_what_joins_layers_must_be_known() -> None:
    with pytest.raises(SettingError, match="join is 'sum'; expected product or logs"):
        FRE(join="sum")
    with pytest.raises(SettingError, match="shared is 'yes'; expected true or false"):
        FRE(shared="yes")  # type: ignore[arg-type]


@pytest.mark.parametrize("batch", [16, BATCH, 2 * BATCH])
def test_as_many_as_it_can_leave_out_are_kept_without_loss_whatever_their_batches(batch: int) -> None:
    grids = [(2, 3, 3), (4, 2, 2)]
    most = FRE().leaves_out(grids)
    assert most == ROOM
    images = [torch.randn(most, *grid, generator=torch.Generator().manual_seed(0)) for grid in grids]
    detector = FRE()
    for start in range(0, most, batch):
        detector.update([layer[start : start + batch] for layer in images])
    assert all(subspace.is_exact for subspace in detector.subspaces_)
    rest = detector.without(torch.arange(10), [layer[:10] for layer in images])
    assert rest.count == most - 10
    rest.head()


LARGE = [(256, 64, 64)]
"""ResNet-50's layer1 at 256×256: 4 MiB an image."""


def room(free: int | None) -> int:
    detector = FRE()
    detector.expect(0, free)
    subspace = detector.empty(LARGE)["layer0"]
    return subspace.room  # type: ignore[attr-defined, no-any-return]


def test_where_there_is_memory_there_is_room_for_more_rows() -> None:
    least = room(None)
    assert least == room(8 << 30) == 256 + 17
    assert room(12 << 30) == 512 + 33
    assert room(24 << 30) == room(1 << 50) == ROOM + 65, "four times as many, and no more"


def test_of_more_rows_the_memory_is_foretold_and_a_cross_fit_needs_it_three_times() -> None:
    detector = FRE()
    detector.expect(0, 24 << 30)
    assert 12 << 30 < detector.memory(LARGE, 10_000, 32) < 14 << 30
    assert detector.leaves_out(LARGE) == 256
    detector.expect(0, 72 << 30)
    assert detector.leaves_out(LARGE) == ROOM


def test_less_variance_than_was_asked_for_is_told() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(200, 4, 8, 8, generator=generator)
    detector = FRE(variance=0.97)
    detector.start([(4, 8, 8)])
    detector.subspaces_[0].room = 20
    for start in range(0, 200, 10):
        detector.update([images[start : start + 10]])
    detector.compact()
    told = detector.summary()
    assert told["variance_asked"] == 0.97
    assert told["variance_kept"][0] < 0.5
    assert FRE(variance=0.97).update([images]).summary()["variance_kept"][0] >= 0.97
