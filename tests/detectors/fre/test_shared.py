"""FRE with one subspace that all positions of a layer share."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import blemish
from blemish.datasets import read_source
from blemish.detectors import FRE, make_detector
from blemish.errors import SettingError
from exports import weights

GRIDS = [(6, 8, 8), (10, 4, 4)]


def features(count: int, seed: int = 0) -> list[Tensor]:
    """Vectors of C channels that mostly lie along two directions, the same ones at all positions."""
    noise = torch.Generator().manual_seed(seed)
    made = []
    for channels, height, width in GRIDS:
        basis = torch.randn(2, channels, generator=torch.Generator().manual_seed(channels))
        factors = torch.randn(count, height, width, 2, generator=noise)
        vectors = 3 + factors @ basis + 0.2 * torch.randn(count, height, width, channels, generator=noise)
        made.append(vectors.movedim(-1, 1).contiguous())
    return made


def slow(train: Tensor, fresh: Tensor, share: float) -> np.ndarray:
    """The squared residual at each position, one position after the other."""
    known = train.movedim(1, -1).reshape(-1, train.shape[1]).double().numpy()
    mean = known.mean(0)
    values, vectors = np.linalg.eigh(np.cov(known.T))
    values, vectors = values[::-1], vectors[:, ::-1]
    rank = next(r for r in range(1, len(values) + 1) if values[:r].sum() / values.sum() >= share)
    maps = np.zeros((len(fresh), *fresh.shape[2:]))
    for image, row, column in np.ndindex(*maps.shape):
        centred = fresh[image, :, row, column].double().numpy() - mean
        left = centred - vectors[:, :rank] @ (vectors[:, :rank].T @ centred)
        maps[image, row, column] = left @ left
    return maps


@pytest.mark.parametrize("share", [0.5, 0.97, 0.99])
def test_its_map_is_the_squared_residual_at_each_position(share: float) -> None:
    detector = FRE(shared=True, variance=share, power=1).update(features(20)[:1])
    fresh = features(3, 1)[:1]
    head = detector.head()
    maps = head(tuple(fresh))
    expected = slow(features(20)[0], fresh[0], share)
    np.testing.assert_allclose(maps.numpy(), expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(head.score((), maps, maps).numpy(), np.sqrt(expected.sum((1, 2))), rtol=1e-3)
    assert detector.summary()["variance_kept"][0] >= share


def test_a_defect_may_lie_where_none_was_seen_and_a_part_where_it_was_not() -> None:
    detector = FRE(shared=True).update(features(20))
    moved = [layer.roll((1, 2), (2, 3)) for layer in features(3, 1)]
    strange = [layer.clone() for layer in moved]
    strange[0][:, :, 5, 5] += torch.linspace(-4, 4, 6)
    head = detector.head()
    normal, found = (head(tuple(layers)).amax((1, 2)) for layers in (moved, strange))
    assert found.min() > 3 * normal.max()


def scores(detector: FRE) -> np.ndarray:
    head, fresh = detector.head(), tuple(features(6, 1))
    maps = head(fresh)
    return np.asarray(head.score(fresh, maps, maps))


def test_any_split_that_is_merged_updated_or_forgotten_equals_one_fit() -> None:
    layers = features(30)
    whole = FRE(shared=True).update(layers)
    parts = [
        FRE(shared=True).update([layer[at] for layer in layers]) for at in (slice(11), slice(11, 14), slice(14, 30))
    ]
    np.testing.assert_allclose(scores(parts[2].merge(parts[0]).merge(parts[1])), scores(whole), rtol=1e-5)
    assert whole.forgets
    more = FRE(shared=True).update(layers).update(features(5, 2))
    rest = more.without(torch.arange(30, 35), features(5, 2))
    np.testing.assert_allclose(scores(rest), scores(whole), rtol=1e-5)
    assert 0 < rest.rounding() < 1e-9
    assert whole.rounding() == 0
    again = make_detector("fre", whole.settings()).restore(whole.grids_, whole.tensors())
    np.testing.assert_array_equal(scores(again), scores(whole))  # type: ignore[arg-type]


def test_what_lost_its_digits_is_told() -> None:
    huge = [1e7 * layer for layer in features(5, 2)]
    made = FRE(shared=True).update(features(5)).update(huge)
    assert made.without(torch.arange(5, 10), huge).rounding() > 1e-4


def test_its_memory_does_not_grow_with_the_images_and_covers_what_was_learned() -> None:
    detector = FRE(shared=True).update(features(20))
    held = [*detector.tensors().values(), *detector.head().state_dict().values()]
    size = sum(tensor.numel() * tensor.element_size() for tensor in held)
    assert size < detector.memory(GRIDS, 20, 32) == detector.memory(GRIDS, 10**6, 32)


def test_features_that_never_vary_leave_nothing_to_project_on() -> None:
    constant = [torch.ones(4, *grid) for grid in GRIDS]
    head = FRE(shared=True).update(constant).head()
    assert torch.isfinite(head(tuple(features(2)))).all()


def test_a_trained_autoencoder_has_no_shared_subspace() -> None:
    with pytest.raises(SettingError, match="leave out shared, or use the detector fre"):
        make_detector("fre-ae", {"shared": True})


@cache
def fitted(tree: Path, engine: str) -> blemish.Model:
    settings = {"shared": True, "join": "product", "variance": 0.9}
    network: dict[str, Any] = {"backbone": "test_resnet", "weights": weights(), "layers": [2, 3]}  # quick to convert
    return blemish.fit(tree, detector="fre", settings=settings, size=64, copies=0, engine=engine, **network)


def test_engines_agree_and_a_saved_model_says_the_same(tree: Path, tmp_path: Path) -> None:
    images = sorted((tree / "test").rglob("*.png"))
    model = fitted(tree, "openvino")
    model.save(tmp_path / "m.blemish")
    found, other, loaded = (
        list(one.predict(images)) for one in (model, fitted(tree, "torch"), blemish.load(tmp_path / "m.blemish"))
    )
    for own, torchs, again in zip(found, other, loaded, strict=True):
        assert own.score == pytest.approx(torchs.score, rel=1e-3)
        assert own.map is not None
        assert torchs.map is not None
        np.testing.assert_allclose(own.map, torchs.map, rtol=1e-3, atol=1e-3 * own.map.max())
        assert again.score == own.score


def test_a_fitted_model_forgets_explains_and_is_exported(tree: Path, tmp_path: Path) -> None:
    from blemish.export import export_model

    model = fitted(tree, "openvino")
    explained = model.explain(next((tree / "test" / "scratch").glob("*.png")))
    assert [cause.layer for cause in explained.layers] == ["2", "3"]
    images = [sample.path for sample in read_source(tree).train]
    assert len(model.forget(images[:2]).inside) == len(images) - 2
    for form in ("openvino", "torch"):
        assert export_model(model, tmp_path / form, form).agreement.score_largest < 1e-3
