"""The paper's formulas on random fields (eqs. 2 to 6 and 17 to 20) as they stand there, beside what is used here."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.linalg import block_diag
from scipy.special import gamma, kv

from blemish.detectors.vae.random_field import RandomField, base

Floats = NDArray[np.float64]
SHAPE = (6, 5)
SITES = 30


def matern(distance: float, reach: float, smoothness: float) -> float:
    """Eq. 2."""
    if distance == 0:
        return 1.0
    ratio = np.sqrt(2 * smoothness) * distance / reach
    return float(2 ** (1 - smoothness) / gamma(smoothness) * ratio**smoothness * kv(smoothness, ratio))


def distance(a: tuple[int, int], b: tuple[int, int]) -> float:
    """Eq. 3."""
    down, across = abs(a[0] - b[0]), abs(a[1] - b[1])
    return float(np.hypot(min(down, SHAPE[0] - down), min(across, SHAPE[1] - across)))


def covariance(kind: str, reach: float, variance: float) -> Floats:
    """Of all pairs of sites; eqs. 4, 5 and 6."""
    sites = [(row, column) for row in range(SHAPE[0]) for column in range(SHAPE[1])]
    ratios = np.array([[distance(a, b) / reach for b in sites] for a in sites])
    correlation = {"matern-1/2": np.exp(-ratios), "matern-3/2": (ratios + 1) * np.exp(-ratios)}[kind]
    return np.asarray(variance * correlation)


@pytest.mark.parametrize("kind", ["matern-1/2", "matern-3/2"])
def test_the_base_holds_the_covariances_with_the_first_site(kind: str) -> None:
    wanted = covariance(kind, 0.8, 2.5)[0].reshape(SHAPE)
    assert np.allclose(base(kind, 0.8, 2.5, *SHAPE).numpy(), wanted)


def test_both_correlations_are_materns_but_for_a_factor_of_the_range() -> None:
    for row in range(SHAPE[0]):
        apart = distance((0, 0), (row, 2))
        half, three_halves = (float(base(kind, 1.3, 1.0, *SHAPE)[row, 2]) for kind in ("matern-1/2", "matern-3/2"))
        assert half == pytest.approx(matern(apart, 1.3, 0.5))
        assert three_halves == pytest.approx(matern(apart, np.sqrt(3) * 1.3, 1.5)), "the paper drops the root of 3"


def transform(values: Floats) -> NDArray[np.complex128]:
    return np.fft.fft2(values, norm="ortho")


def back(values: NDArray[np.complex128]) -> NDArray[np.complex128]:
    return np.fft.ifft2(values, norm="ortho")


@pytest.fixture(scope="module")
def dense() -> Floats:
    return covariance("matern-3/2", 0.6, 2.5)


@pytest.fixture(scope="module")
def field() -> RandomField:
    return RandomField.from_base(base("matern-3/2", 0.6, 2.5, *SHAPE))


def test_the_inverse_has_the_base_of_the_paper(dense: Floats, field: RandomField) -> None:
    inverse = np.linalg.inv(dense)
    paper = back(1 / transform(dense[0].reshape(SHAPE))) / SITES  # eq. 17
    assert np.allclose(paper.real.ravel(), inverse[0])
    assert float(field.sum(1 / field.eigenvalues)) / SITES == pytest.approx(inverse[0, 0])
    values = np.random.default_rng(0).standard_normal(SITES)
    found = field.squared_distance(torch.from_numpy(values.reshape(SHAPE)))
    assert float(found) == pytest.approx(values @ inverse @ values)


def test_a_product_has_the_base_of_the_paper(dense: Floats, field: RandomField) -> None:
    other = covariance("matern-1/2", 1.1, 0.7)
    both = transform(dense[0].reshape(SHAPE)) * transform(other[0].reshape(SHAPE))
    paper = np.sqrt(SITES) * back(both)  # eq. 18
    assert np.allclose(paper.real.ravel(), (dense @ other)[0])
    assert np.allclose(field.times(torch.from_numpy(other[0].reshape(SHAPE))).numpy(), paper.real)


def test_the_eigenvalues_are_those_of_the_paper_and_of_the_dense_matrix(dense: Floats, field: RandomField) -> None:
    paper = np.sqrt(SITES) * transform(dense[0].reshape(SHAPE))  # eq. 19
    assert np.allclose(np.sort(paper.real.ravel()), np.linalg.eigvalsh(dense))
    assert np.allclose(paper.imag, 0)
    assert np.allclose(field.eigenvalues.numpy(), paper.real[:, : SHAPE[1] // 2 + 1])
    assert float(field.log_determinant()) == pytest.approx(np.linalg.slogdet(dense)[1])


def test_a_product_with_a_field_is_the_papers_with_v_on_the_right(dense: Floats, field: RandomField) -> None:
    values = np.random.default_rng(1).standard_normal(SHAPE)
    paper = np.sqrt(SITES) * transform(transform(dense[0].reshape(SHAPE)) * back(values))  # eq. 20
    assert np.allclose(paper.real.ravel(), dense @ values.ravel())
    assert np.allclose(field.times(torch.from_numpy(values)).numpy(), paper.real)


def test_the_divergence_is_the_sum_over_channels_of_dense_ones(dense: Floats, field: RandomField) -> None:
    """Eqs. 11 and 12, for two channels that are independent of each other."""
    rng = np.random.default_rng(2)
    mean, variance = rng.standard_normal((2, *SHAPE)), rng.uniform(0.1, 2, (2, *SHAPE))
    prior, posterior = block_diag(dense, dense), np.diag(variance.ravel())
    logs = np.linalg.slogdet(prior)[1] - np.linalg.slogdet(posterior)[1]
    inverse = np.linalg.inv(prior)
    wanted = (logs - 2 * SITES + np.trace(inverse @ posterior) + mean.ravel() @ inverse @ mean.ravel()) / 2
    assert float(field.divergence(*map(torch.from_numpy, (mean, variance))).sum()) == pytest.approx(wanted)
