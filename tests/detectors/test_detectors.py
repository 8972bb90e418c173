"""The mathematics against slow and obvious versions, scipy and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.decomposition import PCA
from torch import Tensor
from torch.nn import functional as F

from blemish.detectors import DETECTORS, FRE, Detector, Gaussian, PaDiM, Trained, make_detector
from blemish.errors import SettingError, ShapeError

SHAPES = [(6, 8, 8), (10, 4, 4)]


CLOSED_FORM = [name for name, kind in DETECTORS.items() if not issubclass(kind, Trained)]


def features(count: int, seed: int, shapes: list[tuple[int, int, int]] | None = None) -> list[Tensor]:
    """Correlated, position-dependent features of `count` images."""
    rng = np.random.default_rng(seed)
    made = []
    for channels, height, width in shapes or SHAPES:
        mixing = np.random.default_rng(channels).standard_normal((channels, channels)) / channels**0.5
        place = np.random.default_rng(height).standard_normal((channels, height, width))
        noise = np.einsum("cd,ndhw->nchw", mixing, rng.standard_normal((count, channels, height, width)))
        made.append(torch.from_numpy((noise + 3 * place).astype(np.float32)))
    return made


def fitted(detector: Detector, count: int = 40, shapes: list[tuple[int, int, int]] | None = None) -> Detector:
    for start in range(0, count, 7):
        detector.update([layer[start : start + 7] for layer in features(count, 0, shapes)])
    return detector


def test_gaussian_whitens_as_scipy_does() -> None:
    detector = fitted(Gaussian(), shapes=SHAPES[:1])
    vectors = features(40, 0)[0].movedim(1, -1).flatten(0, 2).double().numpy()
    values, directions = np.linalg.eigh(np.cov(vectors.T))
    covariance = stats.Covariance.from_eigendecomposition((values, directions))
    whitening = detector.components(0)  # type: ignore[attr-defined]
    mean, factor = whitening.mean, whitening.rows
    fresh = features(5, 1)[0].movedim(1, -1).flatten(0, 2).double().numpy()
    ours = (fresh - mean.numpy()) @ factor.numpy().T
    assert np.abs(np.abs(ours) - np.abs(covariance.whiten(fresh - vectors.mean(0)))).max() < 1e-4, "up to signs"


def test_the_gaussian_map_is_the_squared_mahalanobis_distance_and_layers_add_up() -> None:
    detector, fresh = fitted(Gaussian()), features(5, 1)
    wanted = torch.zeros(5, 8, 8)
    for layer, new in zip(features(40, 0), fresh, strict=True):
        vectors = layer.movedim(1, -1).flatten(0, 2).double().numpy()
        delta = new.movedim(1, -1).double().numpy() - vectors.mean(0)
        squared = np.einsum("bhwc,cd,bhwd->bhw", delta, np.linalg.inv(np.cov(vectors.T)), delta)
        grown = F.interpolate(torch.from_numpy(squared)[:, None], (8, 8), mode="bilinear", align_corners=False)
        wanted += grown[:, 0].float()
    assert torch.allclose(detector.head()(tuple(fresh)), wanted, rtol=1e-4)
    assert detector.count == 40


def test_gaussian_drops_dead_and_duplicate_channels_and_says_so() -> None:
    layer = features(40, 0)[0]
    layer = torch.cat([layer, layer[:, :1], torch.full_like(layer[:, :1], 5.0)], 1)
    detector = Gaussian().update([layer])
    assert detector.summary() == {"components": [6], "dropped_components": [2]}
    plain = Gaussian().update([layer[:, :6]])
    assert torch.allclose(detector.head()((layer,)), plain.head()((layer[:, :6],)), rtol=1e-3)


def test_gaussian_of_features_that_never_vary_is_refused() -> None:
    with pytest.raises(SettingError, match="never vary"):
        Gaussian().update([torch.ones(4, 3, 2, 2)]).head()


def slow_padim(chosen: Tensor, train: list[Tensor], fresh: list[Tensor], epsilon: float) -> np.ndarray:
    """Position by position, with an explicit inverse."""

    def embedding(layers: list[Tensor]) -> np.ndarray:
        coarse = layers[1].repeat_interleave(2, 2).repeat_interleave(2, 3)
        return torch.cat([layers[0], coarse], 1)[:, chosen].double().numpy()

    known, new = embedding(train), embedding(fresh)
    scores = np.zeros((len(new), 8, 8))
    for row in range(8):
        for column in range(8):
            at = known[:, :, row, column]
            covariance = np.cov(at.T) + epsilon * np.eye(at.shape[1])
            delta = new[:, :, row, column] - at.mean(0)
            scores[:, row, column] = np.sqrt(np.einsum("bi,ij,bj->b", delta, np.linalg.inv(covariance), delta))
    return scores


@pytest.mark.parametrize(("reduction", "dims"), [("all", 100), ("random", 7), ("random", 100)])
def test_padim_equals_a_loop_over_positions(reduction: str, dims: int) -> None:
    detector = fitted(PaDiM(reduction=reduction, dims=dims))
    fresh = features(5, 1)
    chosen = detector.channels_  # type: ignore[attr-defined]
    assert len(chosen) == min(dims, 16) if reduction == "random" else 16
    wanted = slow_padim(chosen, features(40, 0), fresh, 0.01)
    assert np.abs(detector.head()(tuple(fresh)).numpy() / wanted - 1).max() < 1e-4


def test_padim_with_fewer_images_than_channels_is_usable_and_with_one_is_refused() -> None:
    few = fitted(PaDiM(), count=5)
    assert torch.isfinite(few.head()(tuple(features(3, 1)))).all()
    with pytest.raises(SettingError, match="1 image"):
        fitted(PaDiM(), count=1).head()


def test_padims_principal_components_are_those_of_all_positions_together() -> None:
    detector = fitted(PaDiM(reduction="pca", dims=5))
    train, fresh = features(40, 0), features(5, 1)

    def embedding(layers: list[Tensor]) -> np.ndarray:
        coarse = layers[1].repeat_interleave(2, 2).repeat_interleave(2, 3)
        return torch.cat([layers[0], coarse], 1).movedim(1, -1).double().numpy()

    components = PCA(5).fit(embedding(train).reshape(-1, 16)).components_.T
    known, new = embedding(train) @ components, embedding(fresh) @ components
    delta = new - known.mean(0)
    centred = known - known.mean(0)
    covariance = np.einsum("nhwi,nhwj->hwij", centred, centred) / 39 + 0.01 * np.eye(5)
    wanted = np.sqrt(np.einsum("bhwi,hwij,bhwj->bhw", delta, np.linalg.inv(covariance), delta))
    assert np.abs(detector.head()(tuple(fresh)).numpy() / wanted - 1).max() < 1e-3


def test_the_random_channels_are_drawn_by_the_seed() -> None:
    first, again, other = (fitted(PaDiM(dims=5, seed=seed), 2).channels_.tolist() for seed in (0, 0, 1))  # type: ignore[attr-defined]
    assert first == again != other


@pytest.mark.parametrize(
    "shapes",
    [
        [(4, 8, 8), (5, 4, 4), (6, 2, 2)],
        [(4, 7, 9), (5, 4, 5), (6, 3, 2)],  # sides that do not divide each other
        [(4, 5, 5), (5, 5, 5), (3, 1, 1)],  # two layers of one grid
        [(3, 2, 2), (2, 6, 3)],  # the finer layer last
        [(2, 1, 2), (3, 2, 48), (2, 3, 4)],  # more positions than the finest grid, though fewer rows
    ],
)
def test_padim_on_layers_of_any_grids_equals_one_covariance_a_position(shapes: list[tuple[int, int, int]]) -> None:
    detector = fitted(PaDiM(reduction="all"), shapes=shapes)
    train, fresh = features(40, 0, shapes), features(5, 1, shapes)
    finest = max((height, width) for _, height, width in shapes)

    def embedding(layers: list[Tensor]) -> np.ndarray:
        grown = [F.interpolate(layer, finest, mode="nearest") for layer in layers]
        return torch.cat(grown, 1).movedim(1, -1).double().numpy()

    known, delta = embedding(train), embedding(fresh) - embedding(train).mean(0)
    centred = known - known.mean(0)
    covariance = np.einsum("nhwi,nhwj->hwij", centred, centred) / 39 + 0.01 * np.eye(known.shape[-1])
    wanted = np.sqrt(np.einsum("bhwi,hwij,bhwj->bhw", delta, np.linalg.inv(covariance), delta))
    assert np.abs(detector.head()(tuple(fresh)).numpy() / wanted - 1).max() < 1e-4


def test_padim_learns_coarse_layers_once_a_cell() -> None:
    detector = fitted(PaDiM(reduction="all"), shapes=[(4, 8, 8), (5, 4, 4), (6, 2, 2)])
    scatter = {name: tensor.shape for name, tensor in detector.tensors().items() if name.endswith("scatter")}
    assert list(scatter.values()) == [(4, 6, 6), (16, 5, 11), (64, 4, 15)]


@pytest.mark.parametrize("name", CLOSED_FORM)
def test_the_memory_a_detector_foretells_covers_what_it_learned_and_its_head(name: str) -> None:
    shapes = [(24, 32, 32), (40, 16, 16), (112, 8, 8)]
    detector = fitted(make_detector(name), 60, shapes)
    held = [*detector.tensors().values(), *detector.head().state_dict().values()]
    size = sum(tensor.numel() * tensor.element_size() for tensor in held)
    assert size < detector.memory(detector.grids_, 60, 32) < size + 1_000_000_000


def slow_fre(train: Tensor, fresh: Tensor, variance: float) -> np.ndarray:
    """Squared residual of scikit-learn's PCA, summed over channels."""
    known = train.flatten(1).double().numpy()
    new = fresh.flatten(1).double().numpy()
    total = PCA(svd_solver="full").fit(known).explained_variance_ratio_
    pca = PCA(int((np.cumsum(total) < variance).sum()) + 1, svd_solver="full").fit(known)
    residual = new - pca.inverse_transform(pca.transform(new))
    return (residual.reshape(fresh.shape) ** 2).sum(1)


@pytest.mark.parametrize("variance", [0.5, 0.9, 0.97])
def test_fre_of_one_layer_and_power_one_is_the_norm_of_the_residual(variance: float) -> None:
    detector = fitted(FRE(variance=variance, power=1), shapes=SHAPES[:1])
    fresh = features(5, 1)[:1]
    wanted = slow_fre(features(40, 0)[0], fresh[0], variance)
    head = detector.head()
    found = head(tuple(fresh))
    assert np.abs(found.numpy() / wanted - 1).max() < 1e-3
    norms = np.sqrt(wanted.sum((1, 2)))
    assert np.abs(head.score((), found, found).numpy() / norms - 1).max() < 1e-4


@pytest.mark.parametrize(("weights", "shares"), [(None, (0.5, 0.5)), ((3.0, 1.0), (0.75, 0.25))])
def test_fre_joins_layers_by_their_weighted_geometric_mean(
    weights: tuple[float, ...] | None, shares: tuple[float, float]
) -> None:
    detector = fitted(FRE(weights=weights))
    fresh = features(5, 1)
    maps = [slow_fre(known, new, 0.97) for known, new in zip(features(40, 0), fresh, strict=True)]
    logs = [torch.from_numpy(np.log(layer))[:, None] for layer in maps]
    logs[1] = F.interpolate(logs[1], (8, 8), mode="bilinear", align_corners=False)
    wanted = torch.exp(shares[0] * logs[0] + shares[1] * logs[1])[:, 0].numpy()
    assert np.abs(detector.head()(tuple(fresh)).numpy() / wanted - 1).max() < 0.05, "but for the floor"


def test_of_three_layers_the_middle_one_counts_twice() -> None:
    shapes = [(4, 4, 4), (5, 4, 4), (6, 4, 4)]
    one, two = (fitted(FRE(weights=weights), shapes=shapes) for weights in (None, (1, 2, 1)))
    fresh = tuple(features(3, 1, shapes))
    assert torch.equal(one.head()(fresh), two.head()(fresh))


def test_the_power_leads_from_the_norm_to_the_maximum() -> None:
    maps = torch.from_numpy(np.random.default_rng(0).gamma(2, size=(3, 8, 8)).astype(np.float32))
    for power in (1.0, 2.0, 6.0, 64.0):
        head = fitted(FRE(power=power), shapes=SHAPES[:1]).head()
        wanted = torch.sqrt(64 * (maps.double() ** power).mean((1, 2)) ** (1 / power)).float()
        assert torch.allclose(head.score((), maps, maps), wanted, rtol=1e-4)
    assert torch.allclose(head.score((), maps, maps), torch.sqrt(64 * maps.amax((1, 2))), rtol=0.05)


def test_compacting_a_fre_changes_no_score() -> None:
    detector = fitted(FRE())
    fresh = tuple(features(5, 1))
    before = detector.head()(fresh)
    detector.compact()
    assert torch.allclose(detector.head()(fresh), before, rtol=1e-3)


@pytest.mark.parametrize("name", CLOSED_FORM)
def test_what_was_learned_is_restored_from_its_tensors_to_the_last_bit(name: str) -> None:
    detector = fitted(make_detector(name))
    detector.compact()
    again = make_detector(name, detector.settings()).restore(detector.grids_, detector.tensors())
    fresh = tuple(features(5, 1))
    assert torch.equal(detector.head()(fresh), again.head()(fresh))
    assert again.count == detector.count == 40
    assert again.summary() == detector.summary()


@pytest.mark.parametrize("name", DETECTORS)
def test_before_any_image_there_is_nothing_to_score_by(name: str) -> None:
    with pytest.raises(SettingError):
        make_detector(name).head()


@pytest.mark.parametrize("name", CLOSED_FORM)
def test_other_layers_than_before_are_refused(name: str) -> None:
    detector = fitted(make_detector(name))
    with pytest.raises(ShapeError, match=r"\(6, 8, 8\)"):
        detector.update(features(2, 0)[:1])


@pytest.mark.parametrize("name", CLOSED_FORM)
def test_anomalous_features_score_above_every_normal_image(name: str) -> None:
    detector = fitted(make_detector(name))
    normal, strange = features(10, 1), features(10, 2)
    strange[0][:, :, 2:4, 2:4] += 8
    strange[1][:, :, 1, 1] -= 8
    head = detector.head()
    scores = []
    for layers in (normal, strange):
        coarse = head(tuple(layers))
        scores.append(head.score(tuple(layers), coarse, coarse))
    assert scores[1].min() > scores[0].max()


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("fre", {"variance": 0.0}, "variance"),
        ("fre", {"variance": 1.0}, "variance"),
        ("fre", {"power": 0.5}, "power"),
        ("fre", {"weights": (0.0, 0.0)}, "weights"),
        ("fre", {"weights": ()}, "weights"),
        ("fre", {"variannce": 0.9}, "no setting 'variannce'; it has smoothing, interpolation, variance"),
        ("padim", {"dims": 0}, "dims"),
        ("padim", {"epsilon": 0.0}, "epsilon"),
        ("padim", {"reduction": "some"}, "random, pca or all"),
        ("gaussian", {"rtol": -1.0}, "rtol"),
        ("gaussian", {"smoothing": -1.0}, "smoothing"),
        ("gaussian", {"interpolation": "linear"}, "nearest, bilinear or bicubic"),
        ("spade2", {}, "fre, fre-ae, padim, gaussian"),
    ],
)
def test_settings_out_of_range_or_misspelt_are_refused(name: str, settings: dict[str, object], expected: str) -> None:
    with pytest.raises(SettingError, match=expected):
        make_detector(name, settings)


def test_weights_that_are_not_one_a_layer_are_refused() -> None:
    with pytest.raises(SettingError, match="3 weights for 2 layers"):
        fitted(FRE(weights=(1, 1, 1)))
