"""Scores far above the others are suspicious, however many of them there are below a half."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.calibration import Gathered
from blemish.calibration.suspicious import suspicious


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 1000), count=st.integers(20, 400), spread=st.floats(0.02, 0.5), scale=st.floats(1e-6, 1e6))
def test_few_log_normal_scores_are_suspicious_at_any_scale(seed: int, count: int, spread: float, scale: float) -> None:
    scores = scale * np.exp(spread * np.random.default_rng(seed).standard_normal(count))
    assert suspicious(scores).mean() <= 0.05
    assert suspicious(scores).tolist() == suspicious(3 * scores).tolist()


@pytest.mark.parametrize("share", [0.01, 0.1, 0.2])
def test_bad_images_do_not_hide_each_other(share: float) -> None:
    rng = np.random.default_rng(0)
    good = np.exp(0.1 * rng.standard_normal(300))
    bad = 3 * np.exp(0.1 * rng.standard_normal(round(share * 300)))
    found = suspicious(np.concatenate([good, bad]))
    assert found[300:].all()
    assert found[:300].sum() <= 3


@pytest.mark.parametrize("scores", [[], [1.0], [1.0, 9.0], [2.0] * 20, [0.0] * 20])
def test_where_nothing_can_be_told_nothing_is_suspicious(scores: list[float]) -> None:
    assert not suspicious(np.asarray(scores, np.float64)).any()


def test_names_come_worst_first_with_their_p_values() -> None:
    gathered = Gathered()
    for index in range(40):
        gathered.update(1 + 0.01 * (index % 7), np.zeros((4, 4), np.float32), f"{index}.png")
    gathered.update(5.0, np.zeros((4, 4), np.float32), "bad.png")
    gathered.update(7.0, np.zeros((4, 4), np.float32), "worse.png")
    assert gathered.suspicious() == ["worse.png", "bad.png"]
    assert gathered.finish(0.024).threshold_image == "worse.png"
    assert gathered.finish(0.047).threshold_image == "bad.png"
    assert gathered.finish(0.047).at(threshold=6.0).threshold_image is None
    assert gathered.finish(0.1).suspicious == [("worse.png", 1 / 42), ("bad.png", 2 / 42)]


@pytest.mark.parametrize("count", [3, 4, 5, 6, 7, 9, 11, 15, 25, 51])
def test_good_images_are_rarely_suspicious_however_few_they_are(count: int) -> None:
    rng = np.random.default_rng(count)
    drawn = [suspicious(np.exp(0.2 * rng.standard_normal(count))) for _ in range(6000 // count)]
    assert np.concatenate(drawn).mean() <= 1 / 250


@pytest.mark.parametrize("count", [6, 9, 14, 20])
def test_one_that_is_far_off_is_suspicious_among_few(count: int) -> None:
    scores = np.exp(0.05 * np.random.default_rng(count).standard_normal(count))
    scores[0] = 30
    assert np.flatnonzero(suspicious(scores)).tolist() == [0]
