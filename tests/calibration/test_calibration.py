from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from blemish.calibration import Calibration, Gathered, held_out_count, lowest_rate, promised_rate
from blemish.calibration.conformal import ROUNDING
from blemish.errors import SettingError


def calibrated(scores: np.ndarray, rate: float) -> Calibration:
    """By scores alone; what their maps were like is made up."""
    return Calibration(scores, np.zeros(len(scores)), np.ones(len(scores)), rate, 0.5)


@pytest.mark.parametrize(("count", "rate"), [(19, 0.05), (20, 0.05), (99, 0.01), (150, 0.1), (37, 0.3)])
def test_over_many_draws_the_false_alarm_rate_is_the_stated_one_within_binomial_error(count: int, rate: float) -> None:
    rng = np.random.default_rng(count)
    draws = 40_000
    scores = np.sort(rng.lognormal(size=(draws, count)), axis=1)
    fresh = rng.lognormal(size=draws)
    alarms = sum(score > calibrated(held, rate).threshold for held, score in zip(scores, fresh, strict=True))
    # The exact chance of a new score above the k-th smallest of n is (n + 1 - k) / (n + 1), at most the stated rate.
    exact = np.floor((count + 1) * rate + 1e-9) / (count + 1)
    low, high = stats.binom.interval(0.9999, draws, exact)
    assert low <= alarms <= high
    assert exact <= rate


def test_the_range_of_false_alarms_by_chance_holds_what_it_says() -> None:
    rng = np.random.default_rng(1)
    low, high = calibrated(np.zeros(94), 0.05).false_alarms_by_chance(118)
    inside = 0
    for _ in range(4000):
        calibration = calibrated(np.sort(rng.normal(size=94)), 0.05)
        inside += low <= (rng.normal(size=118) > calibration.threshold).sum() <= high
    assert 0.94 < inside / 4000 < 0.99


@pytest.mark.parametrize("count", [19, 94, 999])
def test_the_range_of_false_alarms_by_chance_is_that_of_the_beta_binomial(count: int) -> None:
    for normal in (1, 20, 400):
        for rate in (0.05, 0.3, 0.9):
            rank = int(np.ceil((count + 1) * (1 - rate) - 1e-9))
            chance = stats.betabinom(normal, count + 1 - rank, rank)
            expected = (chance.ppf(0.025), chance.ppf(0.975))
            assert calibrated(np.arange(count), rate).false_alarms_by_chance(normal) == expected


def test_over_many_draws_p_values_of_normal_images_are_uniform() -> None:
    rng = np.random.default_rng(0)
    held, fresh = np.sort(rng.normal(size=(20_000, 19)), axis=1), rng.normal(size=20_000)
    found = [calibrated(h, 0.1).p_values([s])[0] for h, s in zip(held, fresh, strict=True)]
    counts = np.bincount(np.round(np.array(found) * 20).astype(int), minlength=21)[1:]
    assert stats.chisquare(counts).pvalue > 1e-4


@given(
    scores=st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=60),
    rate=st.floats(0.3, 0.9),
    new=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20),
)
def test_an_image_is_above_the_threshold_only_with_a_p_value_of_at_most_the_rate(
    scores: list[float], rate: float, new: list[float]
) -> None:
    calibration = calibrated(np.sort(np.array(scores)), rate)
    for score, p_value in zip(new, calibration.p_values(new), strict=True):
        as_high = sum(held + ROUNDING * abs(held) >= score for held in scores)
        assert p_value == (1 + as_high) / (len(scores) + 1)
        if score > calibration.threshold:
            assert p_value <= rate + 1e-9


@pytest.mark.parametrize(("images", "count"), [(2, 1), (3, 1), (10, 5), (39, 19), (60, 20), (209, 42), (10_000, 2000)])
def test_a_fifth_is_held_out_but_at_least_twenty_and_at_most_half(images: int, count: int) -> None:
    assert held_out_count(images) == count


def test_the_default_rate_gives_way_and_one_that_was_asked_for_does_not() -> None:
    assert promised_rate(99, None) == 0.01
    assert promised_rate(20, None) == lowest_rate(20) == 1 / 21
    assert promised_rate(20, 0.05) == 0.05
    assert promised_rate(19, 0.05) == 0.05
    with pytest.raises(SettingError, match=r"needs 99 good images .*there are 20, which allow 0\.0477 or more"):
        promised_rate(20, 0.01)


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, 2.0, float("nan")])
def test_a_rate_that_is_no_probability_is_refused(rate: float) -> None:
    with pytest.raises(SettingError, match="above 0 and below 1"):
        promised_rate(100, rate)


@pytest.mark.parametrize("share", [0.0, 0.51, -1.0, float("nan")])
def test_a_share_that_leaves_too_little_is_refused(share: float) -> None:
    with pytest.raises(SettingError, match="share"):
        held_out_count(100, share)


def test_good_maps_stay_in_the_lower_half_of_the_colours_but_for_the_stated_rate() -> None:
    rng = np.random.default_rng(0)
    maps = rng.gamma(3, size=(100, 16, 16)).astype(np.float32)
    held = Gathered()
    for values in maps:
        held.update(float(values.max()), values)
    calibration = held.finish(0.05)
    bottom, top = calibration.display
    assert bottom == pytest.approx(np.median(maps), rel=0.05)
    assert ((maps.max((1, 2)) - bottom) / (top - bottom) > 0.5).mean() <= 0.05
    assert len(held) == len(calibration.scores) == 100


def test_maps_that_never_vary_still_have_a_scale() -> None:
    held = Gathered()
    for _ in range(3):
        held.update(0.0, np.zeros((4, 4), np.float32))
    bottom, top = held.finish(0.5).display
    assert top > bottom


def test_the_scale_of_large_maps_comes_from_some_of_their_pixels() -> None:
    values = np.random.default_rng(0).normal(5, 1, (3000, 3100)).astype(np.float32)
    held = Gathered().update(9.0, values).update(9.0, values)
    bottom, top = held.finish(0.5).display
    assert bottom == pytest.approx(float(np.median(values)), abs=0.01)
    assert (bottom + top) / 2 == pytest.approx(float(values.max()))


@given(st.lists(st.floats(0, 100, width=32), min_size=1, max_size=30), st.integers(0, 30))
def test_calibrations_of_two_halves_merge_to_that_of_all(values: list[float], cut: int) -> None:
    def gathered(some: list[float]) -> Gathered:
        found = Gathered()
        for value in some:
            found.update(value, np.array([[0.0, value, 2 * value]], np.float32))
        return found

    whole, merged = gathered(values).finish(0.5), gathered(values[:cut]).merge(gathered(values[cut:])).finish(0.5)
    assert np.array_equal(merged.scores, whole.scores)
    assert (merged.threshold, merged.display) == (whole.threshold, whole.display)


def test_any_rate_can_be_asked_for_afterwards() -> None:
    rng = np.random.default_rng(0)
    gathered = Gathered()
    for _ in range(99):
        gathered.update(rng.normal(), rng.normal(size=(4, 4)).astype(np.float32))
    for rate in (0.01, 0.05, 0.5):
        asked, changed = gathered.finish(rate), gathered.finish(0.2).at(rate=rate)
        assert (asked.threshold, asked.display) == (changed.threshold, changed.display)
        boxes = gathered.finish(0.2).at(box_rate=rate)
        assert gathered.finish(0.2, rate).box_level == boxes.box_level
        assert (boxes.threshold, boxes.display) == (gathered.finish(0.2).threshold, gathered.finish(0.2).display)
    calibration = gathered.finish(0.2)
    with pytest.raises(SettingError, match=r"99 good images cannot promise a false-alarm rate of 0\.001, only 0\.01 "):
        calibration.at(rate=0.001)
    with pytest.raises(SettingError, match=r"99 good images cannot promise a box rate of 0\.001, only 0\.01 or more"):
        calibration.at(box_rate=0.001)
    for rate in (0.0, 1.0, 1 - 1e-14, 1.5, -0.1, float("nan"), float("inf")):
        for name in ("rate", "box_rate"):
            with pytest.raises(SettingError, match="out of range; give a rate above 0 and below 1"):
                calibration.at(**{name: rate})


def test_a_rate_and_a_threshold_together_are_refused_since_each_decides_the_other() -> None:
    with pytest.raises(SettingError, match="give one"):
        calibrated(np.arange(9.0), 0.5).at(rate=0.3, threshold=4.0)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40), st.floats(-2e6, 2e6))
def test_a_threshold_states_the_smallest_rate_that_is_promised_of_it(held: list[float], threshold: float) -> None:
    scores = np.sort(np.array(held))
    stated = calibrated(scores, 0.5).at(threshold=threshold)
    assert stated.threshold == threshold
    possible = [rank / (len(scores) + 1) for rank in range(1, len(scores) + 1)]
    kept = [rate for rate in possible if calibrated(scores, 0.5).at(rate=rate).threshold <= threshold]
    assert stated.rate == pytest.approx(min(kept, default=1.0))
    assert np.array_equal(stated.p_values(scores), calibrated(scores, 0.5).p_values(scores)), "p-values stay"
    assert stated.at(rate=0.5).threshold == calibrated(scores, 0.5).threshold, "a rate takes its place again"


def test_a_threshold_above_all_scores_promises_one_in_n_plus_one_and_one_below_all_of_them_nothing() -> None:
    calibration = calibrated(np.arange(1.0, 20.0), 0.5)
    assert calibration.at(threshold=1e9).rate == pytest.approx(1 / 20)
    assert calibration.at(threshold=0.0).rate == 1
    for threshold in (float("nan"), float("inf")):
        with pytest.raises(SettingError, match="not a finite number"):
            calibration.at(threshold=threshold)
    with pytest.raises(SettingError, match=r"threshold 0 promises a rate of 1, not 0\.5"):
        replace(calibration, given_threshold=0.0)


@pytest.mark.parametrize("share_above", [0.0, 0.02, 0.2, 0.97, 1.0])
def test_the_range_by_chance_holds_for_a_threshold_that_was_given_too(share_above: float) -> None:
    rng = np.random.default_rng(2)
    inside = 0
    for _ in range(1000):
        calibration = calibrated(np.sort(rng.uniform(size=60)), 0.5).at(threshold=1 - share_above)
        low, high = calibration.false_alarms_by_chance(80)
        inside += low <= (rng.uniform(size=80) > 1 - share_above).sum() <= high
    assert inside / 1000 > 0.94


@pytest.mark.parametrize(("count", "rate"), [(12, 0.1), (99, 0.1), (99, 0.05)])
def test_over_many_draws_good_images_show_a_box_at_most_at_the_box_rate(count: int, rate: float) -> None:
    rng = np.random.default_rng(count)
    draws = 20_000
    shown = 0
    for held, fresh in zip(rng.normal(size=(draws, count)), rng.normal(size=draws), strict=True):
        order = np.argsort(rng.normal(size=count))  # scores do not follow the maxima
        shown += fresh > Calibration(np.sort(held), held, held[order], 0.5, rate).box_level
    exact = np.floor((count + 1) * rate + 1e-9) / (count + 1)
    low, high = stats.binom.interval(0.9999, draws, exact)
    assert low <= shown <= high
    assert exact <= rate


def test_the_default_box_rate_gives_way_and_one_that_was_asked_for_does_not() -> None:
    held = Gathered()
    for value in range(5):
        held.update(value, np.full((2, 2), value, np.float32))
    assert held.finish(0.5).box_rate == pytest.approx(1 / 6)
    assert held.finish(0.5).box_level == pytest.approx(4, rel=1e-3)
    with pytest.raises(SettingError, match=r"5 good images cannot promise a box rate of 0\.1, only 0\.1667 or more"):
        held.finish(0.5, 0.1)


@pytest.mark.parametrize("name", ["rate", "threshold", "box_rate"])
def test_what_is_no_number_is_refused_and_numbers_of_numpy_become_pythons(name: str) -> None:
    calibration = calibrated(np.arange(1.0, 20.0), 0.1)
    for odd in ("0.5", True, [0.5], 10**400):
        with pytest.raises(SettingError, match="is not a number; give one"):
            calibration.at(**{name: odd})  # type: ignore[arg-type]
    changed = calibration.at(**{name: np.float32(0.25)})  # type: ignore[arg-type]
    assert {type(value) for value in (changed.rate, changed.threshold, changed.box_rate)} == {float}
    alike = calibration.at(**{name: 0.25})  # type: ignore[arg-type]
    assert (changed.rate, changed.threshold, changed.box_rate) == (alike.rate, alike.threshold, alike.box_rate)
