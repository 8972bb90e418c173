"""What every statistic can do, whatever it counts."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from torch import Tensor

from blemish.errors import ShapeError
from blemish.statistics import GridMoments, Moments, Periodogram, Statistic, Subspace, Sums

CASES = [
    (Moments.empty(4), (9, 4)),
    (GridMoments.empty(3, 4), (9, 3, 4)),
    (GridMoments.empty(3, 4, 2), (9, 3, 4)),
    (Periodogram.empty(6, 7), (9, 6, 7)),
    (Subspace.empty(4), (9, 4)),
    (Subspace.empty(50, room=8), (9, 50)),
    (Sums.empty(4), (9, 4)),
]


def same(one: Statistic, other: Statistic) -> bool:
    left, right = one.tensors(), other.tensors()
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def full(empty: Statistic, shape: tuple[int, ...], seed: int = 0) -> Statistic:
    copied = type(empty).from_tensors({name: tensor.clone() for name, tensor in empty.tensors().items()})
    return copied.update(torch.randn(shape, generator=torch.Generator().manual_seed(seed)))


@pytest.mark.parametrize(("empty", "shape"), CASES)
def test_its_tensors_make_it_again_and_it_goes_on_as_before(empty: Statistic, shape: tuple[int, ...]) -> None:
    original = full(empty, shape)
    again = type(original).from_tensors(original.tensors())
    assert type(again) is type(original)
    assert again.count == original.count == len(torch.zeros(shape))
    assert all(type(getattr(again, one.name)) is type(getattr(original, one.name)) for one in fields(original))
    more = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    assert same(again.update(more), original.update(more))


@pytest.mark.parametrize(("empty", "shape"), CASES)
def test_a_merge_is_pure_and_shares_nothing_with_its_parts(empty: Statistic, shape: tuple[int, ...]) -> None:
    one, other = full(empty, shape), full(empty, shape, 1)
    before = {name: tensor.clone() for name, tensor in one.tensors().items()}
    for merged in (one.merge(other), one.merge(empty), empty.merge(one)):
        merged.update(torch.ones(shape))
        assert all(torch.equal(tensor, before[name]) for name, tensor in one.tensors().items())
    assert empty.count == 0
    assert one.merge(other).count == one.count + other.count


@pytest.mark.parametrize(("empty", "shape"), CASES)
def test_a_field_that_is_missing_is_named(empty: Statistic, shape: tuple[int, ...]) -> None:
    tensors = full(empty, shape).tensors()
    del tensors["count"]
    with pytest.raises(KeyError, match="count"):
        type(empty).from_tensors(tensors)


def test_the_sum_of_any_split_is_the_sum_of_all() -> None:
    vectors = torch.randn(20, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    parts: list[Tensor] = list(vectors.split(7))
    merged = Sums.empty(3)
    for part in parts:
        merged = merged.merge(Sums.empty(3).update(part))
    assert torch.allclose(merged.finish(), vectors.mean(0))
    assert torch.equal(Sums.empty(3).finish(), torch.zeros(3))
    with pytest.raises(ShapeError, match=r"\(n, 3\)"):
        Sums.empty(3).update(torch.zeros(2, 4))
    with pytest.raises(ShapeError, match="3 and of 4"):
        Sums.empty(3).merge(Sums.empty(4))
