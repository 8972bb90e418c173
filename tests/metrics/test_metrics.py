from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from blemish.errors import ShapeError
from blemish.metrics import Decisions, PixelTally, auroc, average_precision, f1_max, partial_area, tally

seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=60, deadline=None)
@given(seed=seeds, levels=st.sampled_from([2, 3, 10, 10**6]), count=st.integers(2, 200))
def test_ranking_figures_equal_scikit_learns_ties_and_all(seed: int, levels: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.random(count) < 0.4
    labels[:2] = [False, True]
    scores = rng.integers(0, levels, count) + 0.5 * labels
    counts = tally(scores, labels)
    assert auroc(counts) == pytest.approx(roc_auc_score(labels, scores), abs=1e-9)
    assert average_precision(counts) == pytest.approx(average_precision_score(labels, scores), abs=1e-9)
    precision, recall, _ = precision_recall_curve(labels, scores)
    best = np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12))
    assert f1_max(counts) == pytest.approx(best, abs=1e-9)
    limit = 0.3
    ours = partial_area(counts, limit)
    mcclish = roc_auc_score(labels, scores, max_fpr=limit)  # standardised: 1/2 (1 + (area - low) / (high - low))
    area = (2 * mcclish - 1) * (limit - limit**2 / 2) + limit**2 / 2
    assert ours == pytest.approx(area / limit, abs=1e-9)


def test_figures_for_want_of_a_class_are_none() -> None:
    for labels in ([True, True], [False, False]):
        counts = tally([1.0, 2.0], labels)
        assert (auroc(counts), average_precision(counts), f1_max(counts), partial_area(counts, 0.3)) == (None,) * 4
    assert set(PixelTally().figures().values()) == {None}


def test_scores_that_are_no_numbers_or_lack_labels_are_refused() -> None:
    with pytest.raises(ShapeError, match="finite"):
        tally([1.0, float("nan")], [True, False])
    with pytest.raises(ShapeError, match="3 scores and 2 labels"):
        tally([1.0, 2.0, 3.0], [True, False])
    with pytest.raises(ShapeError, match="mask"):
        PixelTally().update(np.zeros((2, 2), np.float32), np.zeros((2, 3), bool))
    with pytest.raises(ShapeError, match="finite"):
        PixelTally().update(np.full((2, 2), np.inf, np.float32), np.zeros((2, 2), bool))


def scene(seed: int, images: int = 3, side: int = 24) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Maps and masks with several regions, some touching only at a corner, some tied values, some negative."""
    rng = np.random.default_rng(seed)
    masks = ndimage.binary_opening(rng.random((images, side, side)) < 0.45, np.ones((1, 2, 2)))
    masks[0, 0, 0] = True
    masks[0, -1, -1] = False
    noise = ndimage.gaussian_filter(rng.standard_normal((images, side, side)), (0, 1, 1))
    return np.round(noise + 0.3 * masks - 0.1, 2).astype(np.float32), masks


def slow_aupro(maps: NDArray[np.float32], masks: NDArray[np.bool_], limit: float = 0.3) -> float:
    """The definition, threshold by threshold and region by region."""
    regions = []
    for index, mask in enumerate(masks):
        labels, count = ndimage.label(mask, np.ones((3, 3)))
        regions += [maps[index][labels == label] for label in range(1, count + 1)]
    normal = maps[~masks]
    points = [(0.0, 0.0)]
    for threshold in sorted(set(maps.ravel().tolist()), reverse=True):
        overlap = np.mean([(region >= threshold).mean() for region in regions])
        points.append((float((normal >= threshold).mean()), float(overlap)))
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 >= limit:
            break
        if x1 > limit:
            y1 = y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
            x1 = limit
        area += (x1 - x0) * (y0 + y1) / 2
    return area / limit


@settings(max_examples=10, deadline=None)
@given(seed=seeds)
def test_pixel_figures_equal_the_slow_definitions(seed: int) -> None:
    maps, masks = scene(seed)
    pixels = PixelTally()
    for values, mask in zip(maps, masks, strict=True):
        pixels.update(values, mask)
    figures = pixels.figures()
    assert figures["auroc"] == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()), abs=1e-6)
    assert figures["aupr"] == pytest.approx(average_precision_score(masks.ravel(), maps.ravel()), abs=1e-6)
    precision, recall, _ = precision_recall_curve(masks.ravel(), maps.ravel())
    best = np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12))
    assert figures["f1_max"] == pytest.approx(best, abs=1e-6)
    assert figures["aupro"] == pytest.approx(slow_aupro(maps, masks), abs=1e-6)


@settings(max_examples=10, deadline=None)
@given(seed=seeds, cut=st.integers(0, 3), level=st.sampled_from([0, 4]))
def test_tallies_of_parts_merge_to_the_tally_of_all(seed: int, cut: int, level: int) -> None:
    maps, masks = scene(seed)
    maps += level  # above 0 throughout, or on both sides of it, which takes millions of cells
    whole, first, second = PixelTally(), PixelTally(), PixelTally()
    for index, (values, mask) in enumerate(zip(maps, masks, strict=True)):
        whole.update(values, mask)
        (first if index < cut else second).update(values, mask)
    figures = whole.figures()
    for merged in (first.merge(second), second.merge(first)):
        assert merged.figures() == pytest.approx(figures, rel=1e-12)  # areas are sums, whose order differs


@pytest.mark.parametrize("scale", [1e-20, 1e-3, 1.0, 1e20])
def test_cells_change_an_auroc_by_less_than_a_millionth_and_by_no_more_than_they_say(scale: float) -> None:
    rng = np.random.default_rng(0)
    mask = rng.random((400, 400)) < 0.1
    values = (scale * rng.gamma(2 + mask)).astype(np.float32)
    pixels = PixelTally().update(values, mask)
    exact = roc_auc_score(mask.ravel(), values.ravel())
    error = abs(pixels.figures()["auroc"] - exact)  # type: ignore[operator]
    assert error < 1e-6
    assert error <= pixels.tie_error() < 1e-4


def test_cells_know_their_values_to_three_in_a_hundred_thousand() -> None:
    values = np.array([[-3e5, -1.5, -1e-3, 0.0], [1e-30, 0.7, 42.0, 1e30]], np.float32)
    found = PixelTally().update(values, np.zeros((2, 4), bool)).pixels().values
    assert np.allclose(found, values.ravel(), rtol=3.1e-5, atol=0)


def test_a_hundred_million_pixels_take_bounded_memory() -> None:
    rng = np.random.default_rng(0)
    values = rng.gamma(2, size=(1000, 1000)).astype(np.float32)
    mask = np.zeros((1000, 1000), bool)
    mask[100:200, 100:200] = True
    pixels = PixelTally()
    for shift in range(100):
        pixels.update(values + np.float32(0.001 * shift) * mask, mask)
    assert pixels.pixels().negatives.sum() + pixels.pixels().positives.sum() == 10**8
    columns = (pixels.negatives, pixels.positives, pixels.regions)
    assert sum(column.nbytes for column in columns) < 100 << 20
    assert pixels.regions.sum() == pytest.approx(100)


def test_rates_are_counted_of_their_own_class() -> None:
    decisions = Decisions.count([True, True, False, False, True], [True, False, True, False, True])
    assert decisions.false_alarm_rate == 0.5
    assert decisions.detection_rate == pytest.approx(2 / 3)
    assert Decisions.count([True], [True]).false_alarm_rate is None
    assert Decisions.count([True], [False]).detection_rate is None
