from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.linalg import subspace_angles

import blemish
from blemish.detectors import FRE, FREAE
from blemish.detectors.fre.head import Projection
from blemish.detectors.fre.linear_autoencoder import LinearAutoencoder
from blemish.errors import SettingError
from blemish.model import Model
from blemish.statistics import Principal, Subspace
from blemish.training import Schedule, train

SHAPE = (4, 3, 5)
DIM = 60
QUICK = {"epochs": 2, "batch": 8}


def largest_angle(one: torch.Tensor, other: torch.Tensor) -> float:
    """Between the subspaces of orthonormal columns, in degrees."""
    return float(np.degrees(subspace_angles(one.double().numpy(), other.double().numpy())).max())


def vectors(count: int = 80, directions: int = 5) -> torch.Tensor:
    """Mostly along a few directions, some larger than others, away from zero."""
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(DIM, directions, generator=generator))[0]
    scales = torch.linspace(2, 4, directions)
    along = torch.randn(count, directions, generator=generator) * scales @ basis.T
    return along + 0.05 * torch.randn(count, DIM, generator=generator) + torch.linspace(-1, 1, DIM)


def principal(variance: float = 0.99) -> Principal:
    return Subspace.empty(DIM).update(vectors()).finish(variance)


def trained(tied: bool, steps: int = 1500) -> LinearAutoencoder:
    torch.manual_seed(0)
    autoencoder = LinearAutoencoder(DIM, len(principal().mixing), tied)
    autoencoder.centre(principal().mean)

    class Error(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.own = autoencoder

        def forward(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"loss": self.own(batch).square().mean()}

    whole = vectors()
    schedule = Schedule(epochs=steps, batch=len(whole), learning_rate=1e-2)
    train(Error(), lambda orders: (whole[order] for order in orders), len(whole), schedule)
    return autoencoder


def residuals(module: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = module(vectors(30))
    return found


@pytest.mark.parametrize("tied", [False, True])
def test_layers_made_from_principal_components_leave_the_same_residuals(tied: bool) -> None:
    made = LinearAutoencoder.from_principal(principal(), tied)
    assert torch.allclose(residuals(made), residuals(Projection(principal())), atol=1e-4)
    assert (made.decoder is made.encoder.weight) == tied


@pytest.mark.parametrize("tied", [False, True])
def test_from_principal_components_to_layers_and_back_nothing_is_lost(tied: bool) -> None:
    before = principal()
    after = LinearAutoencoder.from_principal(before, tied).to_principal(vectors())
    assert largest_angle(before.basis, after.basis) < 0.01
    assert torch.allclose(after.basis.T @ after.basis, torch.eye(after.basis.shape[1]), atol=1e-5)
    assert after.kept == pytest.approx(before.kept, abs=1e-4)
    assert after.energy == pytest.approx(before.energy, rel=1e-5)
    assert torch.allclose(residuals(Projection(after)), residuals(Projection(before)), atol=1e-4)


def test_any_basis_of_the_decoders_columns_becomes_an_orthonormal_one() -> None:
    made = LinearAutoencoder.from_principal(principal(), tied=False)
    with torch.no_grad():
        made.decoder.copy_(torch.randn(len(made.decoder), len(made.decoder)) @ made.decoder)
    assert largest_angle(made.to_principal(vectors()).basis, principal().basis) < 0.05


@pytest.mark.parametrize("tied", [False, True])
def test_training_ends_at_the_principal_subspace_and_its_scores(tied: bool) -> None:
    found = trained(tied)
    assert largest_angle(found.to_principal(vectors()).basis, principal().basis) < 1
    scores, expected = (residuals(module).norm(dim=1) for module in (found, Projection(principal())))
    assert torch.allclose(scores, expected, rtol=0.05)


def test_a_tied_autoencoder_ends_with_orthonormal_weights() -> None:
    weights = trained(tied=True).decoder.detach()
    assert torch.allclose(weights @ weights.T, torch.eye(len(weights)), atol=0.02)


def fitted(method: str) -> FREAE:
    detector = FREAE(method=method, variance=0.99, **QUICK)  # type: ignore[arg-type]
    features = vectors().unflatten(1, SHAPE)
    detector.update([features])
    objective = detector.objective()
    assert float(objective([features])["loss"].detach()) > 0
    detector.settle([[features]])
    return detector


@pytest.mark.parametrize("method", ["ae", "tied"])
def test_weights_of_principal_components_give_the_maps_and_scores_of_fre(method: str) -> None:
    features = (vectors(9).unflatten(1, SHAPE),)
    closed = FRE(variance=0.99)
    closed.update([vectors().unflatten(1, SHAPE)])
    detector = fitted(method)
    detector.layers_ = [LinearAutoencoder.from_principal(principal(), method == "tied")]
    with torch.no_grad():
        expected, found = closed.head(), detector.head()
        assert torch.allclose(found(features), expected(features), rtol=1e-2, atol=1e-4)
        maps = found(features)
        assert torch.allclose(found.score(features, maps, maps), expected.score(features, maps, maps))


@pytest.mark.parametrize("method", ["ae", "tied"])
def test_what_was_learned_is_restored_whole(method: str) -> None:
    detector = fitted(method)
    again = FREAE(method=method, variance=0.99, **QUICK)  # type: ignore[arg-type]
    again.restore(detector.grids_, detector.tensors())
    features = (vectors(5).unflatten(1, SHAPE),)
    with torch.no_grad():
        assert torch.equal(again.head()(features), detector.head()(features))
        assert torch.equal(again.head().layers(features)[0], detector.head().layers(features)[0])
    assert again.summary() == detector.summary()


def test_before_training_there_is_nothing_to_score_by() -> None:
    with pytest.raises(SettingError, match="fre-ae has not been trained yet"):
        FREAE().update([vectors().unflatten(1, SHAPE)]).head()


def test_what_it_shares_with_fre_has_the_same_defaults() -> None:
    own, shared = FREAE().settings(), FRE().settings()
    assert {name: own[name] for name in shared} == shared


def test_an_unknown_method_is_named() -> None:
    with pytest.raises(SettingError, match="method is 'pca'; expected ae or tied"):
        FREAE(method="pca")


@pytest.mark.parametrize("method", ["ae", "tied"])
def test_a_fit_from_files_saves_loads_and_explains(method: str, tree: Path, tmp_path: Path) -> None:
    settings = {**QUICK, "method": method}
    model = blemish.fit(tree, detector="fre-ae", settings=settings, layers=[2, 3], size=64, false_alarm_rate=0.2)
    model.save(tmp_path / "m.blemish")
    image = next((tree / "test" / "scratch").glob("*.png"))
    (before,), (after,) = list(model.predict(image)), list(Model.load(tmp_path / "m.blemish").predict(image))
    assert after.score == before.score
    assert len(model.explain(image).layers) == 2


def test_with_its_directions_given_it_needs_no_principal_components() -> None:
    detector = FREAE(directions=5, **QUICK)  # type: ignore[arg-type]
    features = vectors().unflatten(1, SHAPE)
    detector.update([features[:30]]).update([features[30:]])
    assert not detector.subspaces_
    assert detector.enough() is None
    detector.objective()
    assert [len(layer.decoder) for layer in detector.layers_] == [5]
    assert torch.allclose(detector.layers_[0].mean, vectors().mean(0), atol=1e-5)
    many = FREAE(directions=1000, **QUICK).update([features])  # type: ignore[arg-type]
    many.objective()
    assert len(many.layers_[0].decoder) == DIM, "no more than there are dimensions"


def test_without_it_a_sample_says_how_many_directions_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blemish.detectors.fre.fre_ae.SAMPLE", 40)
    detector = FREAE(variance=0.99, **QUICK)  # type: ignore[arg-type]
    for start in range(0, 80, 16):
        detector.update([vectors()[start : start + 16].unflatten(1, SHAPE)])
    assert detector.subspaces_[0].count == 40
    assert detector.enough() is None, "of the others nothing is known"
    detector.objective()
    assert len(detector.layers_[0].decoder) == len(Subspace.empty(DIM).update(vectors()[:40]).finish(0.99).mixing)


def test_it_has_trained_enough_near_the_loss_of_principal_components_where_that_is_known() -> None:
    detector = FREAE(variance=0.99, **QUICK)  # type: ignore[arg-type]
    detector.update([vectors().unflatten(1, SHAPE)])
    closed = float(Projection(principal())(vectors()).square().mean())
    assert detector.enough() == pytest.approx(-1.3 * closed, rel=1e-4)


def test_the_sample_is_not_kept_and_the_share_that_lies_in_the_subspace_is_told() -> None:
    detector = fitted("tied")
    detector.layers_ = [LinearAutoencoder.from_principal(principal(), tied=True)]
    detector.settle([[vectors().unflatten(1, SHAPE)]])
    assert detector.summary()["variance_kept"][0] == pytest.approx(principal().kept, abs=1e-4)
    detector.compact()
    assert sum(len(subspace.rows) for subspace in detector.subspaces_) == 0
    again = FREAE(variance=0.99, **QUICK).restore(detector.grids_, detector.tensors())  # type: ignore[arg-type]
    features = (vectors(5).unflatten(1, SHAPE),)
    with torch.no_grad():
        assert torch.equal(again.head()(features), detector.head()(features))


@pytest.mark.parametrize("directions", [None, 8])
def test_the_memory_it_foretells_covers_what_it_learned(directions: int | None) -> None:
    detector = FREAE(variance=0.99, directions=directions, **QUICK)  # type: ignore[arg-type]
    detector.update([vectors().unflatten(1, SHAPE)]).objective()
    held = sum(tensor.numel() * tensor.element_size() for tensor in detector.tensors().values())
    assert held < detector.memory(detector.grids_, 80, 32)
    assert detector.memory([(512, 32, 32)], 10**3, 32) == detector.memory([(512, 32, 32)], 10**6, 32)


def test_directions_are_a_count() -> None:
    with pytest.raises(SettingError, match="directions is 0; expected a whole number from 1"):
        FREAE(directions=0)
    with pytest.raises(SettingError, match="directions"):
        FREAE(directions=2.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["fre", "fre-ae"])
def test_a_papers_preset_is_of_both_ways_to_find_the_subspace(name: str) -> None:
    from blemish.fitting.choices import choose

    chosen = choose(name, None, None, None, None, None, None, None, "fre-r50-3l", None, False, 3)
    told = chosen.detector.settings()
    assert (chosen.detector.name, told["join"], told["power"], told["weights"]) == (name, "product", 1, (1, 1, 1))
    with pytest.raises(SettingError, match="preset padim-r18 is for padim, not for fre-ae"):
        choose("fre-ae", None, None, None, None, None, None, None, "padim-r18", None, False, 0)
