"""The equations of the paper on one Gaussian a layer (Bertoldo & Arrustico 2023), against loops over vectors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.linalg import inv, sqrtm
from torch import Tensor

from blemish.detectors import Gaussian
from blemish.detectors.gaussian import _GaussianHead

Floats = NDArray[np.float64]


def maps(count: int, seed: int) -> Tensor:
    """Features (count, 4, 3, 5) whose channels depend on one another."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(9).standard_normal((4, 4))
    return torch.from_numpy(np.einsum("cd,bdhw->bchw", mixing, 1 + rng.standard_normal((count, 4, 3, 5)))).float()


def vectors(features: Tensor) -> list[Floats]:
    """The feature vectors of all images and positions, one after the other."""
    return [image[:, h, w].double().numpy() for image in features for h in range(3) for w in range(5)]


def moments(features: Tensor) -> tuple[Floats, Floats]:
    """Mean and covariance, vector by vector, as eqs. 1 and 2 have them."""
    every = vectors(features)
    mean = np.zeros(4)
    for vector in every:
        mean += vector / len(every)
    covariance = np.zeros((4, 4))
    for vector in every:
        covariance += np.outer(vector - mean, vector - mean) / (len(every) - 1)
    return mean, covariance


@pytest.fixture(scope="module")
def detector() -> Gaussian:
    features = maps(6, 0)
    return Gaussian().update([features[:4]]).update([features[4:]])


@pytest.fixture(scope="module")
def head(detector: Gaussian) -> _GaussianHead:
    found = detector.head()
    assert isinstance(found, _GaussianHead)
    return found


def test_mean_and_covariance_are_those_of_all_images_and_positions_together(detector: Gaussian) -> None:
    mean, covariance = moments(maps(6, 0))
    found = detector.statistics_["layer0"].finish()
    assert np.allclose(found[0], mean)
    assert np.allclose(found[1], covariance)


def test_the_map_is_at_each_position_the_squared_distance_of_its_vector(head: _GaussianHead) -> None:
    mean, covariance = moments(maps(6, 0))
    fresh = maps(2, 1)
    distances = [np.sqrt((x - mean) @ inv(covariance) @ (x - mean)) for x in vectors(fresh)]
    assert np.allclose(head((fresh,)).sqrt().numpy().ravel(), distances, rtol=1e-4)


def test_the_whitened_vectors_have_the_norm_of_the_symmetric_root_and_are_it_turned_into_the_eigenvectors(
    detector: Gaussian,
) -> None:
    mean, covariance = moments(maps(6, 0))
    root = np.real(sqrtm(inv(covariance)))
    found = detector.components(0)
    _, directions = np.linalg.eigh(covariance)  # by eigenvalue, the smallest first, as the paper counts components
    for x in vectors(maps(2, 1)):
        whitened = root @ (x - mean)
        ours = found.rows.numpy() @ (x - found.mean.numpy())
        assert np.linalg.norm(ours) == pytest.approx(np.linalg.norm(whitened), rel=1e-6)
        assert np.allclose(np.abs(ours), np.abs(directions.T @ whitened), rtol=1e-5, atol=1e-8), "up to signs"


def test_the_training_images_whitened_vectors_have_the_unit_covariance(detector: Gaussian) -> None:
    found = detector.components(0)
    whitened = [found.rows.numpy() @ (x - found.mean.numpy()) for x in vectors(maps(6, 0))]
    assert np.allclose(np.cov(np.transpose(whitened)), np.eye(4), atol=1e-8)


def test_the_squared_components_add_up_to_the_squared_distance(head: _GaussianHead) -> None:
    fresh = (maps(2, 1),)
    (components,) = head.components(fresh)
    assert components.shape == (2, 4, 3, 5)
    total = torch.zeros(2, 3, 5)
    for component in range(4):
        total += components[:, component]
    assert torch.allclose(total, head(fresh), rtol=1e-5)
