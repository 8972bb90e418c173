from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.metrics import MapCounts, NormalPixels, Worths
from scenes import Maps, Masks, scene

RATES = (1e-3, 1e-2)
"""A range that a few small maps resolve."""


def worths(maps: Maps, rates: tuple[float, float] = RATES) -> Worths | None:
    normal = NormalPixels()
    for values in maps:
        normal.add(MapCounts.count(values, np.zeros(values.shape, bool)))
    return normal.worths(rates)


def slow_aupimo(normal: list[Maps], values: Maps, mask: Masks, rates: tuple[float, float] = RATES) -> float:
    """The definition: the curve at every threshold, joined by lines over the logarithm of the rate, then its area."""
    points: list[tuple[float, float]] = []
    for threshold in sorted(set(np.concatenate([each.ravel() for each in normal]).tolist()), reverse=True):
        for above in (np.greater, np.greater_equal):
            rate = float(np.mean([above(each, threshold).mean() for each in normal]))
            points.append((rate, float(above(values[mask], threshold).mean())))
        if rate > rates[1]:
            break
    low, high = np.log(rates)
    place, recall = np.array([(np.log(rate), height) for rate, height in points if rate > 0]).T
    inside = (place > low) & (place < high)
    across = np.concatenate([[low], place[inside], [high]])
    heights = np.concatenate([[np.interp(low, place, recall)], recall[inside], [np.interp(high, place, recall)]])
    return float(np.trapezoid(heights, across) / (high - low))


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), step=st.sampled_from([None, 0.005]))
def test_aupimo_equals_the_area_under_the_slow_curve(seed: int, step: float | None) -> None:
    maps, masks = scene(seed, normal=8)
    if step is not None:
        maps = (np.round(maps / step) * step).astype(np.float32)  # with many ties
    found = worths(maps[:8])
    assert found is not None
    for values, mask in zip(maps[8:], masks[8:], strict=True):
        slow = slow_aupimo(list(maps[:8]), values, mask)
        # where the curve rises within a step that is cut by an end of the range, ties count by half
        assert found.aupimo(MapCounts.count(values, mask)) == pytest.approx(slow, abs=found.tie_error + 1e-6)


def test_aupimo_is_what_the_published_code_gives() -> None:
    maps, masks = scene()
    found = worths(maps[:20])
    assert found is not None
    ours = [found.aupimo(MapCounts.count(values, mask)) for values, mask in zip(maps[20:], masks[20:], strict=True)]
    # aupimo_scores(maps, masks, num_threshs=300_000, fpr_bounds=(1e-3, 1e-2)) of github.com/jpcbertoldo/aupimo, whose
    # thresholds are evenly spaced, and whose range ends at the rates nearest to its bounds
    assert ours == pytest.approx([0.0115856, 0.2215581, 0.5847107, 0.8391514], abs=5e-4)


def test_each_normal_image_weighs_the_same_whatever_its_size() -> None:
    maps, masks = scene()
    large = np.concatenate([maps[:1], maps[1:2]], axis=1)[0]
    assert large.shape == (128, 64)
    normal = NormalPixels()
    for values in (large, *maps[2:20]):
        normal.add(MapCounts.count(values, np.zeros(values.shape, bool)))
    found = normal.worths(RATES)
    assert found is not None
    slow = slow_aupimo([large, *maps[2:20]], maps[22], masks[22])
    assert found.aupimo(MapCounts.count(maps[22], masks[22])) == pytest.approx(slow, abs=found.tie_error + 1e-6)


def test_a_defect_above_all_normal_pixels_has_1_and_one_below_the_range_0() -> None:
    maps, masks = scene()
    found = worths(maps[:20])
    assert found is not None
    for shift, expected in ((100, 1.0), (-5, 0.0)):
        values = maps[20] + np.float32(shift) * masks[20]
        assert found.aupimo(MapCounts.count(values, masks[20])) == expected
    assert found.aupimo(MapCounts.count(maps[0], masks[0])) is None, "no pixel is defective"


def test_too_few_normal_pixels_do_not_resolve_the_range() -> None:
    maps, _ = scene(normal=100)
    assert worths(maps[:100], (1e-5, 1e-4)) is not None
    assert worths(maps[:70], (1e-5, 1e-4)) is None, "26 points of the curve lie in the range"
    assert worths(np.ones((100, 64, 64), np.float32), (1e-5, 1e-4)) is None, "all pixels have one value"
    assert NormalPixels().worths() is None
