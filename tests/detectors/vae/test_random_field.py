from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, special, stats
from torch import Tensor

from blemish.detectors.vae.random_field import (
    CORRELATIONS,
    FINE_FLOOR,
    FLOOR,
    RandomField,
    base,
    fit_prior,
    torus_distances,
)
from blemish.errors import SettingError, ShapeError
from blemish.statistics import Periodogram

SHAPES = [(4, 4), (5, 5), (3, 6), (4, 7), (1, 5), (8, 8)]


def dense(covariances: Tensor) -> Tensor:
    """The whole covariance (n, n) of a torus whose first row this is, site by site."""
    height, width = covariances.shape
    rows = [
        [covariances[(k - i) % height, (m - j) % width] for k in range(height) for m in range(width)]
        for i in range(height)
        for j in range(width)
    ]
    return torch.tensor(rows, dtype=covariances.dtype)


def field(kind: str, shape: tuple[int, int], reach: float = 0.45, variance: float = 2.5) -> tuple[RandomField, Tensor]:
    covariances = base(kind, reach, variance, *shape)
    return RandomField.from_base(covariances), dense(covariances)


def test_distances_go_the_shorter_way_around() -> None:
    distances = torus_distances(4, 5)
    slow = [[math.hypot(min(i, 4 - i), min(j, 5 - j)) for j in range(5)] for i in range(4)]
    assert torch.allclose(distances, torch.tensor(slow, dtype=torch.float64))


@pytest.mark.parametrize(("kind", "order"), [("matern-1/2", 0.5), ("matern-3/2", 1.5)])
def test_correlations_are_those_of_matern_with_the_papers_range(kind: str, order: float) -> None:
    """Equation 2 by Bessel functions; equation 5 leaves out its factor √3, so its range is shorter by that."""
    ratios = np.linspace(0.01, 6, 50)
    scaled = math.sqrt(2 * order) * ratios
    general = 2 ** (1 - order) / special.gamma(order) * scaled**order * special.kv(order, scaled)
    ours = CORRELATIONS[kind](torch.from_numpy(math.sqrt(2 * order) * ratios))
    assert np.allclose(ours.numpy(), general, rtol=1e-9)


@pytest.mark.parametrize("kind", CORRELATIONS)
def test_covariances_are_the_variance_times_the_correlation_at_the_distance_on_the_torus(kind: str) -> None:
    matrix = dense(base(kind, 1.3, 2.5, 3, 4)).reshape(3, 4, 3, 4)
    for (i, j), (k, m) in [((0, 0), (0, 0)), ((0, 1), (2, 3)), ((1, 3), (2, 0)), ((2, 2), (0, 2))]:
        down, across = (min(abs(a - b), side - abs(a - b)) for a, b, side in ((i, k, 3), (j, m, 4)))
        ratio = torch.tensor(math.hypot(down, across) / 1.3, dtype=torch.float64)
        assert matrix[i, j, k, m] == pytest.approx(2.5 * float(CORRELATIONS[kind](ratio)))
    assert torch.equal(matrix.reshape(12, 12), matrix.reshape(12, 12).T)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", CORRELATIONS)
def test_eigenvalues_inverses_and_products_are_those_of_the_dense_matrices(kind: str, shape: tuple[int, int]) -> None:
    """Equations 17, 18 and 19: eigenvalues of an inverse are inverse, and those of a product multiply."""
    (ours, matrix), (other, again) = field(kind, shape), field("matern-1/2", shape, reach=0.3)
    whole = torch.fft.fft2(ours.base()).real.flatten()
    assert torch.allclose(whole.sort().values, torch.linalg.eigvalsh(matrix), rtol=1e-9)
    assert torch.allclose(ours.sum(ours.eigenvalues), whole.sum())
    inverse = RandomField(1 / ours.eigenvalues, ours.width)
    assert torch.allclose(inverse.base().flatten(), torch.linalg.inv(matrix)[0], rtol=1e-6, atol=1e-9)
    product = RandomField(ours.eigenvalues * other.eigenvalues, ours.width)
    assert torch.allclose(product.base().flatten(), (matrix @ again)[0], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", CORRELATIONS)
def test_everything_equals_the_dense_matrices(kind: str, shape: tuple[int, int]) -> None:
    ours, matrix = field(kind, shape)
    sites = shape[0] * shape[1]
    torch.manual_seed(0)
    vectors = torch.randn(3, *shape, dtype=torch.float64)
    flat = vectors.flatten(1)
    inverse = torch.linalg.inv(matrix)
    near = {"rtol": 1e-6, "atol": 1e-9}
    assert ours.floored == 0
    assert torch.allclose(ours.base().flatten(), matrix[0], **near)
    assert torch.allclose(ours.times(vectors).flatten(1), flat @ matrix, **near)
    assert torch.allclose(ours.log_determinant(), torch.logdet(matrix), **near)
    assert torch.allclose(ours.squared_distance(vectors), torch.einsum("bi,ij,bj->b", flat, inverse, flat), **near)
    normal = stats.multivariate_normal(np.zeros(sites), matrix.numpy())
    assert np.allclose(ours.log_likelihood(vectors).numpy(), normal.logpdf(flat.numpy()), rtol=1e-6)


@pytest.mark.parametrize("kind", CORRELATIONS)
def test_the_divergence_is_that_of_torch_between_dense_gaussians(kind: str) -> None:
    ours, matrix = field(kind, (4, 5))
    torch.manual_seed(1)
    mean, variance = torch.randn(2, 4, 5, dtype=torch.float64), torch.rand(2, 4, 5, dtype=torch.float64) + 0.1
    prior = torch.distributions.MultivariateNormal(torch.zeros(20, dtype=torch.float64), matrix)
    posterior = torch.distributions.MultivariateNormal(mean.flatten(1), torch.diag_embed(variance.flatten(1)))
    wanted = torch.distributions.kl_divergence(posterior, prior)
    assert torch.allclose(ours.divergence(mean, variance), wanted, rtol=1e-6)


def test_the_divergence_is_the_mean_of_the_logarithm_of_both_densities_ratio() -> None:
    """Equation 11, by samples of the posterior."""
    ours, _ = field("matern-3/2", (4, 4))
    torch.manual_seed(2)
    mean, variance = torch.randn(4, 4, dtype=torch.float64), torch.rand(4, 4, dtype=torch.float64) + 0.1
    posterior = torch.distributions.Normal(mean, variance.sqrt())
    drawn = posterior.sample((100_000,))
    ratio = posterior.log_prob(drawn).sum((1, 2)) - ours.log_likelihood(drawn)
    error = float(ratio.std()) / math.sqrt(len(drawn))
    assert float(ratio.mean()) == pytest.approx(float(ours.divergence(mean, variance)), abs=5 * error)


def test_with_the_identity_it_is_the_closed_form_of_the_ordinary_vae() -> None:
    ours, _ = field("identity", (8, 8), variance=1.0)
    mean, variance = torch.randn(8, 8, dtype=torch.float64), torch.rand(8, 8, dtype=torch.float64) + 0.1
    ordinary = (mean.square() + variance - 1 - variance.log()).sum() / 2
    assert torch.allclose(ours.divergence(mean, variance), ordinary, rtol=1e-9)


def test_single_precision_follows_double_precision() -> None:
    for kind in CORRELATIONS:
        double, _ = field(kind, (16, 16), reach=2.0 if kind != "gaussian" else 0.9)
        single = RandomField(double.eigenvalues.float(), double.width)
        vectors = torch.randn(2, 16, 16, dtype=torch.float64)
        found = single.log_likelihood(vectors.float())
        assert found.dtype == torch.float32
        assert torch.allclose(found.double(), double.log_likelihood(vectors), rtol=1e-3), kind


@pytest.mark.parametrize("kind", ["matern-1/2", "matern-3/2", "gaussian"])
def test_gradients_are_right(kind: str) -> None:
    vectors = torch.randn(2, 4, 5, dtype=torch.float64)

    def likelihood(reach: Tensor, variance: Tensor, values: Tensor) -> Tensor:
        return RandomField.from_base(base(kind, reach, variance, 4, 5)).log_likelihood(values)

    def divergence(reach: Tensor, variance: Tensor, values: Tensor) -> Tensor:
        return RandomField.from_base(base(kind, reach, variance, 4, 5)).divergence(values, values.square() + 0.1)

    numbers = [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (0.45, 1.7)]
    for function in (likelihood, divergence):
        assert torch.autograd.gradcheck(function, (*numbers, vectors.requires_grad_()))


def test_eigenvalues_that_wrapping_pushed_down_are_raised_and_counted() -> None:
    covariances = base("gaussian", 3.0, 1.0, 6, 7)
    exact = torch.linalg.eigvalsh(dense(covariances))
    ours = RandomField.from_base(covariances)
    assert exact.min() < FLOOR * exact.max()
    assert ours.floored == int((exact < FLOOR * exact.max()).sum()) > 0
    assert ours.eigenvalues.min() == pytest.approx(float(FLOOR * exact.max()))
    assert torch.isfinite(ours.log_likelihood(torch.randn(6, 7, dtype=torch.float64)))


def test_samples_have_the_fields_covariance() -> None:
    ours, matrix = field("matern-3/2", (4, 4))
    drawn = ours.sample(200_000, torch.Generator().manual_seed(0)).flatten(1)
    assert torch.allclose(drawn.T @ drawn / len(drawn), matrix, atol=0.05)
    again = ours.sample(5, torch.Generator().manual_seed(0))
    assert torch.equal(again, ours.sample(5, torch.Generator().manual_seed(0)))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 6), st.integers(0, 6))
def test_any_split_of_the_images_gives_the_same_periodogram(one: int, other: int) -> None:
    fields = torch.randn(6, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    start, stop = sorted((one, other))
    whole = Periodogram.empty(5, 6).update(fields)
    merged = Periodogram.empty(5, 6)
    for part in (fields[:start], fields[start:stop], fields[stop:]):
        merged = merged.merge(Periodogram.empty(5, 6).update(part))
    assert merged.count == whole.count == 18
    assert torch.allclose(merged.total, whole.total)


@pytest.mark.parametrize("kind", ["matern-1/2", "matern-3/2"])
def test_the_likelihood_depends_on_the_images_through_their_periodogram_alone(kind: str) -> None:
    ours, _ = field(kind, (6, 7))
    fields = torch.randn(5, 6, 7, dtype=torch.float64)
    mean = Periodogram.empty(6, 7).update(fields).finish()
    assert torch.allclose(ours.log_likelihood_of_periodogram(mean), ours.log_likelihood(fields).mean())


@pytest.mark.parametrize(("kind", "reach"), [("matern-1/2", 4.0), ("matern-3/2", 2.0), ("gaussian", 1.0)])
def test_the_fitted_prior_is_the_one_that_was_sampled_from_and_the_likeliest(kind: str, reach: float) -> None:
    truth = RandomField.from_base(base(kind, reach, 0.4, 32, 32), FINE_FLOOR)
    mean = Periodogram.empty(32, 32).update(truth.sample(400, torch.Generator().manual_seed(0))).finish()
    found = fit_prior(mean, 32, kind)
    assert found.range == pytest.approx(reach, rel=0.05)
    assert found.variance == pytest.approx(0.4, rel=0.05)

    def negative(point: np.ndarray) -> float:
        other = RandomField.from_base(base(kind, math.exp(point[0]), math.exp(point[1]), 32, 32), FINE_FLOOR)
        return -float(other.log_likelihood_of_periodogram(mean))

    best = optimize.minimize(negative, [0.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-9})
    assert math.log(found.range) == pytest.approx(best.x[0], abs=1e-3)
    assert math.log(found.variance) == pytest.approx(best.x[1], abs=1e-3)
    constant = math.log(2 * math.pi) / 2
    assert found.log_likelihood == pytest.approx(-best.fun / 1024 + constant, abs=1e-6)


@pytest.mark.parametrize("reach", [8.0, 12.0, 20.0])
@pytest.mark.parametrize("kind", ["matern-1/2", "matern-3/2", "gaussian"])
def test_long_ranges_are_recovered_to_two_per_cent(kind: str, reach: float) -> None:
    truth = RandomField.from_base(base(kind, reach, 0.4, 96, 96), FINE_FLOOR)
    mean = Periodogram.empty(96, 96).update(truth.sample(100, torch.Generator().manual_seed(2))).finish()
    found = fit_prior(mean, 96, kind)
    assert found.range == pytest.approx(reach, rel=0.02)
    assert found.variance == pytest.approx(0.4, rel=0.02)
    assert found.floored == truth.floored


def test_bounds_hold_and_images_without_variation_get_the_least_variance() -> None:
    flat = fit_prior(torch.zeros(16, 9), 16, "matern-3/2")
    assert flat.variance == 0.001
    truth = RandomField.from_base(base("matern-1/2", 6.0, 1.0, 32, 32))
    mean = Periodogram.empty(32, 32).update(truth.sample(50, torch.Generator().manual_seed(0))).finish()
    bounded = fit_prior(mean, 32, "matern-1/2", range_bounds=(0.1, 2.0), least_variance=0.5)
    assert bounded.range == pytest.approx(2.0, rel=1e-3)
    assert bounded.variance >= 0.5


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("cubic", 1.0, 1.0, 4, 4), "no correlation is called 'cubic'; give one of matern-1/2"),
        (("matern-1/2", 0.0, 1.0, 4, 4), "range 0 is out of range"),
        (("matern-1/2", -1.0, 1.0, 4, 4), "range -1 is out of range"),
        (("matern-1/2", 1.0, 0.0, 4, 4), "variance 0 is out of range"),
        (("matern-1/2", 1.0, float("nan"), 4, 4), "variance nan is out of range"),
        (("matern-1/2", float("inf"), 1.0, 4, 4), "range inf is out of range"),
    ],
)
def test_numbers_out_of_range_are_refused(arguments: tuple[object, ...], expected: str) -> None:
    with pytest.raises(SettingError, match=expected):
        base(*arguments)  # type: ignore[arg-type]


def test_bounds_out_of_order_and_fields_of_another_torus_are_refused() -> None:
    with pytest.raises(SettingError, match="from 2 to 1 are out of order"):
        fit_prior(torch.ones(4, 3), 4, "matern-1/2", range_bounds=(2.0, 1.0))
    with pytest.raises(SettingError, match="least variance of 0 is out of range"):
        fit_prior(torch.ones(4, 3), 4, "matern-1/2", least_variance=0.0)
    ours, _ = field("identity", (4, 4))
    with pytest.raises(ShapeError, match="do not lie on a torus"):
        ours.times(torch.zeros(4, 5, dtype=torch.float64))
    with pytest.raises(ShapeError, match="expected fields of shape"):
        Periodogram.empty(4, 4).update(torch.zeros(4, 5))
    with pytest.raises(ShapeError, match="cannot merge"):
        Periodogram.empty(4, 4).merge(Periodogram.empty(4, 5))
