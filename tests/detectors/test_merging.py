"""Detectors that were fitted apart and merged are the one that was fitted on everything."""

from __future__ import annotations

from functools import reduce

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from blemish.detectors import DETECTORS, FRE, HFR, VAE, Detector, Trained, make_detector
from blemish.errors import SettingError, ShapeError

SHAPES = [(4, 6, 6), (5, 3, 3)]
MERGING = [name for name, kind in DETECTORS.items() if not issubclass(kind, Trained)]


def features(count: int, seed: int) -> list[Tensor]:
    rng = np.random.default_rng(seed)
    return [torch.from_numpy((3 + rng.standard_normal((count, *shape))).astype(np.float32)) for shape in SHAPES]


def scores(detector: Detector) -> Tensor:
    head, fresh = detector.head(), tuple(features(6, 1))
    coarse = head(fresh)
    return head.score(fresh, coarse, coarse)


@pytest.mark.parametrize("name", MERGING)
@settings(max_examples=10, deadline=None)
@given(cuts=st.lists(st.integers(0, 30), max_size=4), seed=st.integers(0, 1000))
def test_any_split_merged_in_any_order_gives_the_scores_of_the_whole(name: str, cuts: list[int], seed: int) -> None:
    layers = features(30, 0)
    whole = make_detector(name).update(layers)
    pieces = [torch.tensor_split(layer, sorted(cuts)) for layer in layers]
    parts = [make_detector(name).update(list(some)) for some in zip(*pieces, strict=True)]
    np.random.default_rng(seed).shuffle(parts)  # type: ignore[arg-type]
    merged = reduce(lambda one, other: one.merge(other), parts)
    assert merged.count == 30
    assert torch.allclose(scores(merged), scores(whole), rtol=1e-5, atol=1e-5)


def test_a_fre_that_had_to_leave_something_out_still_scores_nearly_the_same_after_a_merge() -> None:
    torch.manual_seed(0)

    def fitted(start: int, stop: int) -> Detector:
        detector = FRE().update([layer[start:stop] for layer in layers])
        for subspace in detector.subspaces_:
            subspace.truncate(20)
        return detector

    layers = []
    for layer in features(60, 0):
        factors, mixing = torch.randn(60, 3), torch.randn(3, layer[0].numel())
        layers.append(layer + 10 * (factors @ mixing).unflatten(1, layer.shape[1:]))
    whole = FRE().update(layers)
    merged = fitted(0, 30).merge(fitted(30, 60))
    assert merged.count == 60
    assert torch.allclose(scores(merged), scores(whole), rtol=0.05)


@pytest.mark.parametrize("name", MERGING)
def test_a_merge_changes_neither_of_the_two_and_an_empty_detector_changes_nothing(name: str) -> None:
    layers = features(24, 0)
    first, second = (
        make_detector(name).update([layer[part] for layer in layers]) for part in (slice(12), slice(12, 24))
    )
    before = {key: tensor.clone() for key, tensor in first.tensors().items()}
    merged = first.merge(second)
    merged.update(layers)
    assert all(torch.equal(tensor, before[key]) for key, tensor in first.tensors().items())
    for identity in (make_detector(name).merge(first), first.merge(make_detector(name))):
        assert torch.equal(scores(identity), scores(first))
        identity.update(layers)
    assert first.count == 12


@pytest.mark.parametrize("name", MERGING)
def test_a_detector_that_was_saved_merges_as_the_one_that_was_not(name: str) -> None:
    layers = features(24, 0)
    first, second = (
        make_detector(name).update([layer[part] for layer in layers]) for part in (slice(12), slice(12, 24))
    )
    again = make_detector(name).restore(first.grids_, first.tensors())
    assert torch.equal(scores(again.merge(second)), scores(first.merge(second)))


def test_what_does_not_belong_together_is_not_merged() -> None:
    layers = features(4, 0)
    with pytest.raises(SettingError, match="different settings"):
        make_detector("padim", {"dims": 3}).update(layers).merge(make_detector("padim", {"dims": 4}).update(layers))
    with pytest.raises(SettingError, match="different settings"):
        make_detector("padim").update(layers).merge(make_detector("fre").update(layers))  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="different settings"):
        make_detector("fre").update(layers).merge(FRE(variance=0.5).update(layers))
    with pytest.raises(SettingError, match="different settings"):
        make_detector("fre").update(layers).merge(make_detector("gaussian").update(layers))  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match=r"\(4, 6, 6\)"):
        make_detector("fre").update(layers).merge(make_detector("fre").update(layers[:1]))
    for trained in (HFR(), VAE()):
        with pytest.raises(SettingError, match="is trained, so it cannot be merged"):
            trained.merge(trained)


def test_channels_that_were_drawn_otherwise_are_not_merged() -> None:
    one, other = (make_detector("padim", {"dims": 4}).update(features(4, 0)) for _ in range(2))
    tensors = other.tensors()
    assert len(tensors["channels"]) == 4
    again = make_detector("padim", {"dims": 4}).restore(other.grids_, {**tensors, "channels": torch.arange(4)})
    with pytest.raises(SettingError, match="drawn by different versions of numpy"):
        one.merge(again)
