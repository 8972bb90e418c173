"""One Gaussian for each layer, against the equations of its paper written out, and which components are left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import blemish
from blemish.detectors import Gaussian
from blemish.errors import SettingError


def features(count: int = 12, scales: tuple[float, ...] = (5.0, 1.0, 0.3, 0.02), seed: int = 0) -> Tensor:
    """Mixed channels whose components have these standard deviations, (count, C, 5, 6)."""
    channels = len(scales)
    mixing, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(channels, channels)))
    vectors = np.random.default_rng(seed).normal(size=(count, 5, 6, channels)) * scales @ mixing.T + 2
    return torch.from_numpy(np.moveaxis(vectors, -1, 1).astype(np.float32))


def test_it_is_the_papers_equations_1_to_6() -> None:
    train, fresh = features(), features(3, seed=2)
    flat = [vector.double().numpy() for image in train for row in image.movedim(0, -1) for vector in row]
    mean = sum(flat) / len(flat)  # eq. 1
    covariance = sum(np.outer(x - mean, x - mean) for x in flat) / (len(flat) - 1)  # eq. 2
    values, vectors = np.linalg.eigh(covariance)
    root = vectors @ np.diag(values**-0.5) @ vectors.T  # of the inverse, not of each of its numbers
    detector = Gaussian(rtol="float64").update([train])
    head = detector.head()
    squared = head.components((fresh,))[0]  # type: ignore[operator]
    maps = head((fresh,))
    for image, row, column in np.ndindex(3, 5, 6):
        delta = fresh[image, :, row, column].double().numpy() - mean
        distance = np.sqrt(delta @ np.linalg.inv(covariance) @ delta)  # eq. 3
        whitened = root @ delta  # eq. 5
        assert whitened @ whitened == pytest.approx(distance**2, rel=1e-6)  # eq. 4
        assert float(maps[image, row, column]) == pytest.approx(distance**2, rel=1e-3)
        own = squared[image, :, row, column]
        assert float(own.sum()) == pytest.approx(distance**2, rel=1e-3)  # eq. 6
        by_component = (delta @ vectors) ** 2 / values  # in ascending order of the eigenvalues (section III-E)
        np.testing.assert_allclose(own, by_component, rtol=1e-2, atol=1e-4)


SMALL = (1.0, 0.3, 1e-3, 2e-4)
"""Deviations of which the last two are small, but larger than what float32 loses of a feature of size 2."""


def test_small_components_that_are_alive_are_kept_by_one_rule_and_dropped_by_the_other() -> None:
    train = features(40, SMALL)
    kept = {rule: Gaussian(rtol=rule).update([train]).summary() for rule in ("float64", "float32")}
    assert kept["float64"] == {"components": [4], "dropped_components": [0]}
    assert kept["float32"] == {"components": [3], "dropped_components": [1]}
    assert Gaussian().settings()["rtol"] == "float32"
    strange = features(1, SMALL, seed=3)
    vectors = torch.linalg.eigh(torch.cov(train.movedim(1, -1).flatten(0, 2).T.double()))[1]
    strange[0, :, 2, 2] += 0.01 * vectors[:, 0].float()
    one, other = (Gaussian(rtol=rule).update([train]).head()((strange,))[0, 2, 2] for rule in ("float64", "float32"))
    assert float(one) > 500 > 50 > float(other), "a defect along that component is seen by one alone"


@pytest.mark.parametrize("rule", ["float64", "float32"])
def test_dead_duplicate_and_recomputed_channels_are_dropped_by_both_rules(rule: str) -> None:
    train = features(40)
    scales = torch.rand(4, generator=torch.Generator().manual_seed(0)).double()
    again = torch.einsum("bchw,c->bhw", train.double(), scales).float()  # right to float32, as a network's channels are
    constant = torch.full_like(train[:, :1], 7.0)
    both = torch.cat([train, train[:, 1:2], constant, again[:, None]], 1)
    detector = Gaussian(rtol=rule).update([both])
    assert detector.summary() == {"components": [4], "dropped_components": [3]}
    alone = Gaussian(rtol=rule).update([train])
    torch.testing.assert_close(detector.head()((both,)), alone.head()((train,)), rtol=2e-3, atol=1e-3)


def test_with_all_live_components_both_engines_agree(tree: Path) -> None:
    """There are fewer vectors than channels, so many components are dead, and some of the others are small."""
    images = sorted((tree / "test").rglob("*.png"))
    settings = {"rtol": "float64"}
    one, other = (
        blemish.fit(tree, detector="gaussian", settings=settings, layers=[4], size=64, engine=engine)
        for engine in ("openvino", "torch")
    )
    assert one.provenance.learned == {"components": [95], "dropped_components": [225]}
    for found, expected in zip(one.predict(images), other.predict(images), strict=True):
        assert found.score == pytest.approx(expected.score, rel=1e-3)


@pytest.mark.parametrize(
    ("rtol", "said"),
    [("float16", "rtol is 'float16'; expected float64 or float32, or a number"), (1.0, "from 0 and below 1")],
)
def test_rules_and_shares_out_of_range_are_refused(rtol: float | str, said: str) -> None:
    with pytest.raises(SettingError, match=said):
        Gaussian(rtol=rtol)
