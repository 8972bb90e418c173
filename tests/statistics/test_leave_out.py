"""A statistic without a part of its sample is the statistic that never took the part in."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.detectors.spade.gallery import Gallery
from blemish.errors import ShapeError
from blemish.statistics import Divisible, GridMoments, Moments, Statistic, Subspace

CASES = [
    (Moments.empty(4), (4,)),
    (GridMoments.empty(3, 4), (3, 4)),
    (GridMoments.empty(3, 4, 2), (3, 4)),
    (Gallery.empty(4), (4,)),
    (Subspace.empty(40), (40,)),
    (Subspace.empty(4), (4,)),
]


def fresh(empty: Statistic) -> Statistic:
    return type(empty).from_tensors({name: tensor.clone() for name, tensor in empty.tensors().items()})


def answer(statistic: Statistic) -> list[torch.Tensor]:
    if isinstance(statistic, Subspace):
        principal = statistic.finish(0.9)
        basis = principal.basis
        return [principal.mean, basis @ basis.T, torch.tensor([principal.kept, principal.energy])]
    found = statistic.finish()
    return list(found) if isinstance(found, tuple) else [found]


@pytest.mark.parametrize(("empty", "shape"), CASES)
@settings(max_examples=15, deadline=None)
@given(
    members=st.sets(st.integers(0, 19), min_size=1, max_size=17),
    cuts=st.lists(st.integers(0, 20), max_size=3),
    far=st.sampled_from([0.0, 50.0]),
)
def test_leaving_out_equals_never_having_seen(
    empty: Statistic, shape: tuple[int, ...], members: set[int], cuts: list[int], far: float
) -> None:
    sample = far + torch.randn(20, *shape, generator=torch.Generator().manual_seed(0))
    whole = fresh(empty)
    for part in torch.tensor_split(sample, sorted(cuts)):
        whole.update(part)
    chosen = torch.tensor(sorted(members))
    others = torch.tensor([index for index in range(20) if index not in members])
    assert isinstance(whole, Divisible)
    before = {name: tensor.clone() for name, tensor in whole.tensors().items()}
    rest = whole.leave_out(chosen, sample[chosen])
    assert rest.count == len(others)
    for found, expected in zip(answer(rest), answer(fresh(empty).update(sample[others])), strict=True):
        assert torch.allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert all(torch.equal(tensor, before[name]) for name, tensor in whole.tensors().items())


def test_a_merged_subspace_still_knows_its_vectors() -> None:
    sample = torch.randn(20, 40, generator=torch.Generator().manual_seed(0))
    merged = Subspace.empty(40).update(sample[:7]).merge(Subspace.empty(40).update(sample[7:12]).update(sample[12:]))
    chosen, others = torch.tensor([3, 9, 19]), torch.tensor([i for i in range(20) if i not in {3, 9, 19}])
    for found, expected in zip(
        answer(merged.leave_out(chosen, sample[chosen])), answer(Subspace.empty(40).update(sample[others])), strict=True
    ):
        assert torch.allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_a_truncated_subspace_says_that_it_can_leave_nothing_out() -> None:
    sample = torch.randn(20, 40, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ShapeError, match="20 vectors were truncated"):
        Subspace.empty(40, room=8).update(sample).leave_out(torch.tensor([0]), sample[:1])
