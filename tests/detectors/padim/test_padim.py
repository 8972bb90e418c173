"""PaDiM's equations, position by position."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from blemish.detectors import PaDiM
from blemish.detectors.scoring import Scoring

GRID = (5, 3, 4)
EPSILON = 0.01


def maps(count: int, seed: int) -> torch.Tensor:
    """Features (count, 5, 3, 4), with a mean of their own at each position."""
    place = torch.randn(GRID, generator=torch.Generator().manual_seed(7))
    return place + torch.randn(count, *GRID, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def detector() -> PaDiM:
    features = maps(9, 0)
    return PaDiM(reduction="all", epsilon=EPSILON).update([features[:4]]).update([features[4:]])


def slow_moments(row: int, column: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance plus epsilon I of one position, image by image (eq. 1)."""
    at = maps(9, 0)[:, :, row, column].double().numpy()
    mean = sum(at) / len(at)
    covariance = EPSILON * np.eye(len(mean))
    for vector in at:
        covariance += np.outer(vector - mean, vector - mean) / (len(at) - 1)
    return mean, covariance


def test_each_position_has_its_mean_and_is_whitened_by_its_covariance_plus_epsilon(detector: PaDiM) -> None:
    head = detector.head()
    means, factors = head.get_buffer("mean0"), head.get_buffer("factor0")  # (P, 1, D), (P, D, r)
    for position in range(12):
        mean, covariance = slow_moments(*divmod(position, 4))
        assert np.allclose(means[position, 0].numpy(), mean, atol=1e-5)
        factor = factors[position].double().numpy()
        assert np.allclose(factor.T @ covariance @ factor, np.eye(5), atol=1e-4)


def test_the_map_is_the_distance_at_each_position(detector: PaDiM) -> None:
    fresh = maps(2, 1)
    found = detector.head()((fresh,))
    for image in range(2):
        for position in range(12):
            row, column = divmod(position, 4)
            mean, covariance = slow_moments(row, column)
            delta = fresh[image, :, row, column].double().numpy() - mean
            wanted = np.sqrt(delta @ np.linalg.inv(covariance) @ delta)
            assert float(found[image, row, column]) == pytest.approx(wanted, rel=1e-4)


def test_the_score_is_the_largest_value_of_the_resized_and_smoothed_map(detector: PaDiM) -> None:
    score, full = Scoring(detector, (24, 32))((maps(2, 1),))
    assert full.shape == (2, 24, 32)
    assert torch.equal(score, full.amax((1, 2)))


def test_the_layers_of_an_image_left_out_are_those_by_a_detector_without_it() -> None:
    rng = np.random.default_rng(3)
    features = [torch.from_numpy(rng.standard_normal((20, *grid), np.float32)) for grid in ((6, 8, 8), (9, 4, 4))]
    whole = PaDiM(reduction="all", epsilon=0.1).update(features)
    alone = whole.each_left_out()
    assert alone is not None
    found_map, found = alone.head().map_and_layers(tuple(features))
    for image in (0, 7):
        rest = PaDiM(reduction="all", epsilon=0.1).update(
            [torch.cat([layer[:image], layer[image + 1 :]]) for layer in features]
        )
        of_image = tuple(layer[image : image + 1] for layer in features)
        expected_map, expected = rest.head().map_and_layers(of_image)
        torch.testing.assert_close(found_map[image], expected_map[0], rtol=1e-3, atol=1e-3)
        for own, other in zip(found, expected, strict=True):
            torch.testing.assert_close(own[image], other[0], rtol=1e-2, atol=1e-2)
