"""Laws of the statistics: any split, any order, the identity; on data that is awkward for sums of squares."""

from __future__ import annotations

from functools import reduce

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from blemish.errors import ShapeError
from blemish.statistics import GridMoments, Moments, Subspace

AWKWARD = ["plain", "large mean", "tiny scale", "constant channel", "mixed scales", "one value"]
splits = st.lists(st.integers(0, 40), max_size=5)
seeds = st.integers(0, 2**32 - 1)


def vectors(kind: str, shape: tuple[int, ...], seed: int) -> Tensor:
    """float32 vectors, awkward in the way of `kind` along the last axis."""
    x = np.random.default_rng(seed).standard_normal(shape)
    if kind == "large mean":
        x = x + 3000
    if kind == "tiny scale":
        x = 1e-5 * x
    if kind == "constant channel":
        x[..., 0] = 7.0
    if kind == "mixed scales":
        x = x * np.logspace(-5, 3, shape[-1])
    if kind == "one value":
        x = np.full(shape, 0.1)
    return torch.from_numpy(x.astype(np.float32))


def parts(x: Tensor, cuts: list[int]) -> list[Tensor]:
    places = sorted(min(cut, len(x)) for cut in cuts)
    return list(torch.tensor_split(x, places))


def two_pass(x: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Mean and unbiased covariance over axis 0 in float64, the obvious way."""
    rows = x.double().numpy()
    mean = rows.mean(0)
    centred = rows - mean
    return mean, np.einsum("n...i,n...j->...ij", centred, centred) / (len(rows) - 1)


def relative(found: Tensor, wanted: np.ndarray) -> float:
    """The largest error relative to the largest value, at each position alone."""
    error = np.abs(found.double().numpy() - wanted)
    return float(error.max() / max(np.abs(wanted).max(), 1e-30))


@pytest.mark.parametrize("kind", AWKWARD)
@settings(max_examples=15, deadline=None)
@given(cuts=splits, seed=seeds)
def test_moments_of_any_split_in_any_order_equal_two_passes(kind: str, cuts: list[int], seed: int) -> None:
    x = vectors(kind, (40, 6), seed)
    chunks = parts(x, cuts)
    np.random.default_rng(seed).shuffle(chunks)  # type: ignore[arg-type]
    streamed = Moments.empty(6)
    for chunk in chunks:
        streamed.update(chunk)
    merged = reduce(Moments.merge, [Moments.empty(6).update(chunk) for chunk in chunks], Moments.empty(6))
    mean, covariance = two_pass(x)
    for moments in (streamed, merged):
        found_mean, found_covariance = moments.finish()
        assert moments.count == 40
        assert relative(found_mean, mean) < 1e-5
        scale = np.sqrt(np.outer(np.diag(covariance), np.diag(covariance))).max()
        assert np.abs(found_covariance.numpy() - covariance).max() <= 1e-5 * scale + 1e-30


@pytest.mark.parametrize("kind", AWKWARD)
@settings(max_examples=15, deadline=None)
@given(cuts=splits, seed=seeds)
def test_grid_moments_of_any_split_in_any_order_equal_two_passes(kind: str, cuts: list[int], seed: int) -> None:
    x = vectors(kind, (40, 3, 5), seed)
    chunks = parts(x, cuts)
    np.random.default_rng(seed).shuffle(chunks)  # type: ignore[arg-type]
    streamed = GridMoments.empty(3, 5)
    for chunk in chunks:
        streamed.update(chunk)
    merged = reduce(GridMoments.merge, [GridMoments.empty(3, 5).update(chunk) for chunk in chunks])
    mean, covariance = two_pass(x)
    for moments in (streamed, merged):
        found_mean, found_covariance = moments.finish()
        assert moments.count == 40
        assert relative(found_mean, mean) < 1e-5
        assert relative(found_covariance, covariance) < 1e-5


@given(cuts=splits, seed=seeds)
def test_grid_moments_of_some_rows_are_the_last_rows_of_all(cuts: list[int], seed: int) -> None:
    chunks = parts(vectors("plain", (40, 3, 5), seed), cuts)
    some = reduce(GridMoments.merge, [GridMoments.empty(3, 5, 2).update(chunk) for chunk in chunks])
    every = reduce(GridMoments.merge, [GridMoments.empty(3, 5).update(chunk) for chunk in chunks])
    assert torch.equal(some.mean, every.mean)
    assert relative(some.scatter, every.scatter[:, 3:].numpy()) < 1e-5


@settings(max_examples=25, deadline=None)
@given(cuts=splits, seed=seeds)
def test_a_subspace_with_room_for_all_is_the_principal_subspace_of_any_split(cuts: list[int], seed: int) -> None:
    x = vectors("plain", (40, 300), seed) @ torch.diag(torch.logspace(0, -2, 300)) + 5
    chunks = parts(x, cuts)
    streamed = Subspace.empty(300)
    for chunk in chunks:
        streamed.update(chunk)
    merged = reduce(Subspace.merge, [Subspace.empty(300).update(chunk) for chunk in reversed(chunks)])
    centred = (x - x.mean(0)).double().numpy()
    _, values, directions = np.linalg.svd(centred, full_matrices=False)
    for subspace in (streamed, merged):
        found = subspace.finish(0.9)
        rank = found.basis.shape[1]
        shares = np.cumsum(values**2) / (values**2).sum()
        assert rank == int((shares < 0.9).sum()) + 1
        assert abs(found.kept - shares[rank - 1]) < 1e-5
        assert abs(found.energy / (values**2).sum() - 1) < 1e-5
        assert torch.allclose(found.basis.T @ found.basis, torch.eye(rank), atol=1e-5)
        cosines = np.linalg.svd(directions[:rank] @ found.basis.double().numpy(), compute_uv=False)
        assert np.sqrt(max(0.0, 1 - cosines.min() ** 2)) < 1e-2  # the sine of the largest principal angle
        assert torch.allclose(found.mean, x.mean(0), atol=1e-5)


@settings(max_examples=10, deadline=None)
@given(seed=seeds)
def test_a_truncated_subspace_keeps_the_energy_that_it_says_and_nearly_the_best(seed: int) -> None:
    x = vectors("plain", (400, 200), seed) @ torch.diag(torch.logspace(0, -6, 200))
    subspace = Subspace.empty(200, room=64)
    for chunk in x.split(16):
        subspace.update(chunk)
    assert len(subspace.rows) <= 64
    centred = (x - x.mean(0)).double()
    energy = float((centred**2).sum())
    found = subspace.finish(0.97)
    assert abs(found.energy / energy - 1) < 1e-4, "what is kept and what was lost add up to all there was"
    inside = float(((centred @ found.basis.double()) ** 2).sum()) / energy
    rank = found.basis.shape[1]
    best = float((torch.linalg.svdvals(centred)[:rank] ** 2).sum()) / energy
    assert best - inside < 0.005


@pytest.mark.parametrize(
    ("empty", "x"),
    [
        (Moments.empty(4), vectors("plain", (9, 4), 0)),
        (GridMoments.empty(2, 4), vectors("plain", (9, 2, 4), 0)),
        (Subspace.empty(4), vectors("plain", (9, 4), 0)),
    ],
)
def test_the_empty_statistic_is_the_identity_of_merge(empty: object, x: Tensor) -> None:
    full = type(empty).empty(*x.shape[1:]).update(x)  # type: ignore[attr-defined]
    for merged in (full.merge(empty), empty.merge(full)):  # type: ignore[attr-defined]
        assert merged.count == 9
        assert torch.equal(merged.mean, full.mean)


@pytest.mark.parametrize("empty", [Moments.empty(4), GridMoments.empty(2, 4), Subspace.empty(4)])
def test_no_vectors_change_nothing_and_other_shapes_are_refused(empty: object) -> None:
    shape = (0, *empty.mean.shape)  # type: ignore[attr-defined]
    assert empty.update(torch.zeros(shape)).count == 0  # type: ignore[attr-defined]
    with pytest.raises(ShapeError, match=r"\(1, 2, 3, 4\)"):
        empty.update(torch.zeros(1, 2, 3, 4))  # type: ignore[attr-defined]
    with pytest.raises(ShapeError, match="merge"):
        empty.merge(type(empty).empty(*[5] * (len(shape) - 1)))  # type: ignore[attr-defined]


def test_merge_is_pure() -> None:
    x = vectors("plain", (9, 4), 0)
    for kind in (Moments, Subspace):
        first, second = kind.empty(4).update(x[:4]), kind.empty(4).update(x[4:])
        before = first.mean.clone()
        first.merge(second)
        assert first.count == 4
        assert torch.equal(first.mean, before)


def test_images_that_never_vary_have_an_empty_subspace() -> None:
    found = Subspace.empty(8).update(torch.ones(5, 8)).finish(0.97)
    assert found.basis.shape == (8, 0)
    assert found.energy == 0
