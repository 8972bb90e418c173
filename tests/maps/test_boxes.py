from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from blemish.maps import Box, counted, find_boxes, matched, outlined
from blemish.maps.boxes import SHRUNK

MASKS = arrays.arrays(bool, arrays.array_shapes(min_dims=2, max_dims=2, max_side=14))


@settings(max_examples=400, deadline=None)
@given(MASKS, st.integers(1, 5), st.integers(0, 1000))
def test_boxes_are_those_of_scipys_parts_that_are_large_enough(mask: np.ndarray, least: int, seed: int) -> None:
    values = np.where(mask, np.random.default_rng(seed).uniform(1, 2, mask.shape), 0).astype(np.float32)
    labels, _ = ndimage.label(mask, np.ones((3, 3)))
    wanted = [
        (rows.start, columns.start, rows.stop, columns.stop, (labels == number).sum(), values[labels == number].max())
        for number, (rows, columns) in enumerate(ndimage.find_objects(labels), 1)
        if (labels == number).sum() >= least
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("blemish.metrics.connected.STRIP", 3)  # parts reach over strips
        found = find_boxes(values, 0.5, least)
    assert sorted((b.top, b.left, b.bottom, b.right, b.area, b.peak) for b in found) == sorted(wanted)
    ofmask = find_boxes(mask, 0.5, least)
    assert sorted(b.area for b in ofmask) == sorted(b.area for b in found)


def test_the_highest_peak_comes_first_and_values_at_the_threshold_are_out() -> None:
    values = np.zeros((6, 8), np.float32)
    values[1, 1:3], values[4, 5:8], values[0, 7] = 2.0, 3.0, 1.0
    assert find_boxes(values, 1.0, 1) == [Box(4, 5, 5, 8, 3, 3.0), Box(1, 1, 2, 3, 2, 2.0)]
    assert find_boxes(values, 1.0) == find_boxes(values, 3.0, 1) == []


def test_overlap_is_the_share_of_both_together() -> None:
    box = Box(0, 0, 4, 4, 16, 1.0)
    assert box.overlap(box) == 1
    assert box.overlap(Box(0, 2, 4, 6, 16, 1.0)) == pytest.approx(8 / 24)
    assert box.overlap(Box(4, 0, 8, 4, 16, 1.0)) == 0
    assert box.moved(1, 2, (2, 0.5)) == Box(2, 1, 10, 3, 16, 1.0)


def test_every_true_box_is_met_once() -> None:
    true = [Box(0, 0, 4, 4, 16, 1.0), Box(10, 10, 14, 14, 16, 1.0)]
    twice = [Box(0, 0, 4, 4, 16, 5.0), Box(0, 0, 4, 5, 20, 4.0)]
    assert matched(twice, true, 0.5) == 1
    assert matched([*twice, Box(10, 11, 14, 14, 12, 3.0)], true, 0.5) == 2
    assert matched([], true, 0.5) == matched(twice, [], 0.5) == 0
    assert matched([Box(0, 0, 4, 9, 36, 1.0)], true, iou=0.5) == 0
    assert matched([Box(0, 0, 4, 9, 36, 1.0)], true, iou=0.4) == 1


@settings(max_examples=400, deadline=None)
@given(MASKS, st.integers(1, 5), st.sampled_from([0.0, 0.4, 1.2, 30.0]), st.integers(0, 1000))
def test_with_a_typical_value_a_box_encloses_what_is_near_its_parts_peak(
    mask: np.ndarray, least: int, typical: float, seed: int
) -> None:
    values = np.where(mask, np.random.default_rng(seed).gamma(0.5, 20, mask.shape) + 1, 0).astype(np.float32)
    labels, _ = ndimage.label(mask, np.ones((3, 3)))
    wanted = []
    for number in range(1, labels.max() + 1):
        part = labels == number
        peak = float(values[part].max())
        near = part & (values > max(0.5, min(typical, peak) + SHRUNK * (peak - min(typical, peak))))
        if part.sum() >= least:
            near = part if typical > peak else near
            rows, columns = np.nonzero(near)
            wanted.append((rows.min(), columns.min(), rows.max() + 1, columns.max() + 1, near.sum(), peak))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("blemish.metrics.connected.STRIP", 3)
        found = find_boxes(values, 0.5, least, typical)
    assert sorted((b.top, b.left, b.bottom, b.right, b.area, b.peak) for b in found) == sorted(wanted)


def test_boxes_are_outlined_on_their_first_and_last_pixels() -> None:
    drawn = outlined(np.zeros((9, 9, 3), np.uint8), [Box(2, 1, 6, 8, 10, 1.0), Box(8, 8, 8, 8, 1, 1.0)])
    rows, columns = np.nonzero(drawn.any(2))
    assert (rows.min(), columns.min()) == (2, 1)
    assert drawn[5, 7].any()
    assert drawn[8, 8].any(), "a box that was shrunk to nothing is still seen"
    assert not drawn[3:5, 2:7].any()
    assert not drawn[6, 7].any()


def test_boxes_are_counted_in_words() -> None:
    box = Box(0, 0, 1, 1, 1, 1.0)
    assert [counted([box] * count) for count in range(3)] == ["no box", "1 box", "2 boxes"]
