from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import norm, t
from sklearn.metrics import roc_auc_score

from blemish.metrics import ImageCells, MapCounts, PixelTally, auroc_interval, image_cells, interval
from blemish.metrics.intervals import LEAST_IMAGES, auroc_of, difference, mean_of, student_quantile, value
from scenes import scene


def scores(seed: int, normal: int, anomalous: int, auroc: float) -> tuple[np.ndarray, np.ndarray]:
    """Scores from two normal distributions whose AUROC is known, and labels."""
    labels = np.arange(normal + anomalous) >= normal
    return np.random.default_rng(seed).standard_normal(len(labels)) + labels * norm.ppf(auroc) * 2**0.5, labels


@pytest.mark.parametrize(("normal", "anomalous", "auroc"), [(20, 40, 0.85), (20, 40, 0.97)])
def test_intervals_of_an_auroc_hold_the_true_one_in_95_of_100_samples(
    normal: int, anomalous: int, auroc: float
) -> None:
    held = []
    for seed in range(120):
        found, labels = scores(seed, normal, anomalous, auroc)
        bounds = interval(auroc_of(found, labels), labels, seed=seed, resamples=400)
        held.append(bounds is not None and bounds.low <= auroc <= bounds.high)
    assert np.mean(held) >= 0.9


def test_intervals_of_a_mean_and_of_a_paired_difference_hold_the_true_ones() -> None:
    held = []
    for seed in range(120):
        rng = np.random.default_rng(seed)
        hard = rng.beta(0.4, 0.3, 25)  # for both detectors alike
        first, second = hard + rng.normal(0.1, 0.05, 25), hard + rng.normal(0, 0.05, 25)
        mean = interval(mean_of(hard), np.zeros(25), seed=seed, resamples=400)
        paired = interval(difference(mean_of(first), mean_of(second)), np.zeros(25), seed=seed, resamples=400)
        assert mean is not None
        assert paired is not None
        assert paired.high - paired.low < (mean.high - mean.low) / 3, "what is hard for both widens nothing"
        held.append((mean.low <= 0.4 / 0.7 <= mean.high, paired.low <= 0.1 <= paired.high))
    assert np.mean(held, axis=0) == pytest.approx([0.95, 0.95], abs=0.04)


def test_an_interval_of_many_images_is_that_of_de_long() -> None:
    found, labels = scores(0, 300, 300, 0.8)
    wins = found[labels][:, None] > found[~labels]
    variance = wins.mean(1).var(ddof=1) / 300 + wins.mean(0).var(ddof=1) / 300  # DeLong et al. 1988
    bounds = auroc_interval(found, labels)
    assert bounds is not None
    assert bounds.high - bounds.low == pytest.approx(2 * 1.96 * variance**0.5, rel=0.07)


def test_a_weight_counts_an_image_as_often_as_it_was_drawn() -> None:
    rng = np.random.default_rng(0)
    found, labels = rng.integers(0, 6, 30).astype(float), rng.random(30) < 0.4  # with ties
    weights = rng.integers(0, 4, (5, 30)).astype(float)
    areas, means = auroc_of(found, labels)(weights), mean_of(found)(weights)
    for row, area, mean in zip(weights.astype(int), areas, means, strict=True):
        assert area == pytest.approx(roc_auc_score(labels.repeat(row), found.repeat(row)))
        assert mean == pytest.approx(found.repeat(row).mean())


def test_draws_keep_the_size_of_each_class_and_are_the_same_for_a_seed() -> None:
    seen = []

    def figure(weights: np.ndarray) -> np.ndarray:
        seen.append(weights)
        return weights[:, 0] + weights[:, -1]

    classes = [0] * 7 + [1] * 9
    assert interval(figure, classes, seed=3) == interval(figure, classes, seed=3) != interval(figure, classes, seed=4)
    assert (seen[0][:, :7].sum(1) == 7).all()
    assert (seen[0][:, 7:].sum(1) == 9).all()


def test_too_few_images_or_images_that_are_all_alike_give_no_interval() -> None:
    assert interval(mean_of(range(LEAST_IMAGES - 1)), np.zeros(LEAST_IMAGES - 1)) is None
    assert interval(mean_of(range(LEAST_IMAGES)), np.zeros(LEAST_IMAGES)) is not None
    assert interval(mean_of([0.5] * 20), np.zeros(20)) is None
    assert interval(mean_of([]), []) is None
    assert auroc_interval(range(20), [False] * 15 + [True] * 5) is None
    assert auroc_interval(range(20), [True] * 20) is None


def test_a_perfect_ranking_has_the_bound_of_newcombe() -> None:
    def distance(area: float) -> float:
        mean = (20 + 60) / 2 - 1
        spread = area * (1 - area) * (1 + mean * ((1 - area) / (2 - area) + area / (1 + area))) / (20 * 60)
        return 1 - area - float(norm.ppf(0.975)) * spread**0.5

    labels = np.arange(80) >= 20
    perfect, reversed_ = auroc_interval(range(80), labels), auroc_interval(range(80, 0, -1), labels)
    assert perfect is not None
    assert reversed_ is not None
    assert (perfect.low, perfect.high) == (pytest.approx(brentq(distance, 0.5, 1 - 1e-9)), 1)
    assert (reversed_.low, reversed_.high) == (0, pytest.approx(1 - perfect.low))


def test_figures_of_all_pixels_follow_the_draws_of_their_images() -> None:
    maps, masks = scene(normal=4)
    cells, counts = ImageCells(), [MapCounts.count(*each) for each in zip(maps, masks, strict=True)]
    for index, each in enumerate(counts):
        cells.add(each, index >= 4)
    weights = np.array([[1, 1, 1, 1, 1, 1, 1, 1], [2, 0, 1, 1, 0, 3, 1, 0]])
    figures = cells.figures()
    for row, auroc, aupro in zip(weights, *(figures[key](weights.astype(float)) for key in figures), strict=True):
        drawn = PixelTally()
        for index in np.arange(8).repeat(row):
            drawn.add(counts[index])
        assert auroc == pytest.approx(drawn.figures()["auroc"], abs=1e-3)
        assert aupro == pytest.approx(drawn.figures()["aupro"], abs=1e-3)
    assert cells.classes.tolist() == [False] * 4 + [True] * 4


def test_cells_become_coarser_as_values_spread_and_stay_few() -> None:
    rng = np.random.default_rng(0)
    cells, tally = ImageCells(), PixelTally()
    for octaves in range(12):
        values = (2.0**octaves * rng.gamma(3, size=(64, 64))).astype(np.float32)
        mask = rng.random(values.shape) < values / values.max()
        tally.update(values, mask)
        cells.add(MapCounts.count(values, mask), octaves >= 6)
    assert len(cells.used) <= image_cells.CELLS
    for key, figure in cells.figures().items():
        assert value(figure, 12) == pytest.approx(tally.figures()[key], abs=1e-3)


def test_pixels_of_many_images_take_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    maps, masks = scene(normal=8)
    alone = ImageCells()
    for index, each in enumerate(zip(maps, masks, strict=True)):
        alone.add(MapCounts.count(*each), index >= 8)
    monkeypatch.setattr(image_cells, "GROUPS", 3)
    shared = ImageCells()
    for index, each in enumerate(zip(maps, masks, strict=True)):
        shared.add(MapCounts.count(*each), index >= 8)
    assert (len(shared.good), len(shared.anomalous)) == (3, 3)
    for key, figure in shared.figures().items():
        assert value(figure, 6) == pytest.approx(value(alone.figures()[key], 12), abs=1e-6)


def test_images_without_a_defective_pixel_have_no_figures_of_all_pixels() -> None:
    maps, masks = scene()
    assert ImageCells().figures() == {}
    assert ImageCells().add(MapCounts.count(maps[0], masks[0]), False).figures() == {}


def test_quantiles_of_student_are_those_of_scipy() -> None:
    for freedom in (*range(1, 31), 99, 100, 2001):
        assert student_quantile(0.95, freedom) == pytest.approx(t.ppf(0.975, freedom), rel=1e-9)
