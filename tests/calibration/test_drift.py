"""Drift: bets that are fair for every order, a bound that holds against few scores, and changes that are seen."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import ks_2samp

from blemish.calibration import drift
from blemish.calibration.drift import Evidence, capital, evidence, factors, places, running_mean, window_p_value
from blemish.errors import SettingError

Scores = NDArray[np.float64]


def p_values(known: Scores, scores: Scores) -> Scores:
    """As `Calibration` has them, written out."""
    return np.array([(1 + sum(known >= score)) / (len(known) + 1) for score in scores])


def found_in(known: Scores, scores: Scores, two_sided: bool = True, level: float = 100, seed: int = 0) -> Evidence:
    return evidence(places(p_values(known, scores), len(known), seed), len(known), level, two_sided=two_sided)


def changed(rng: np.random.Generator, before: int, after: int, by: float = 0, spread: float = 1) -> Scores:
    return np.concatenate([rng.normal(size=before), by + spread * rng.normal(size=after)])


@pytest.mark.parametrize(("count", "length"), [(2, 4), (4, 3), (0, 6)])
@pytest.mark.parametrize("two_sided", [True, False])
def test_each_martingale_is_1_on_average_over_all_orders_of_the_scores(
    count: int, length: int, two_sided: bool
) -> None:
    capitals = []
    for order in itertools.permutations(range(count + length)):
        known, scores = np.sort(order[:count])[::-1], np.array(order[count:])
        where = np.array([sum(known > score) + 0.5 - score / 100 for score in scores])  # the true order in each gap
        capitals.append([np.exp(capital(test)) for test in factors(where, count, two_sided=two_sided)])
    np.testing.assert_allclose(np.mean(capitals, 0), 1, rtol=1e-12)


@given(st.integers(1, 30), st.lists(st.floats(-3, 3), min_size=1, max_size=30), st.integers(0, 9))
def test_places_are_between_the_scores_that_the_p_values_say(count: int, scores: list[float], seed: int) -> None:
    known = np.sort(np.random.default_rng(seed).normal(size=count))[::-1]
    found = places(p_values(known, np.array(scores)), count, seed)
    np.testing.assert_array_equal(np.floor(found), [sum(known >= score) for score in scores])
    assert (found != np.floor(found)).all()


@pytest.mark.parametrize("count", [20, 100])
def test_few_streams_of_good_images_reach_a_level_however_long_they_are(count: int) -> None:
    rng = np.random.default_rng(count)
    ranked, uniform = [], []
    for run in range(200):
        where = places(p_values_fast(rng.normal(size=count), rng.normal(size=20 * count)), count, run)
        ranked.append(evidence(where, count, 20, two_sided=True).log10.max())
        exact = 10**8
        taken = where / (count + 1) * (exact + 1)  # as if the distribution of good scores were known
        uniform.append(evidence(taken, exact, 20, two_sided=True).log10.max())
    assert np.mean(np.array(ranked) >= np.log10(20)) <= 0.05
    assert np.mean(np.array(uniform) >= np.log10(20)) > 0.15, "without ranking, the bound fails"


def p_values_fast(known: Scores, scores: Scores) -> Scores:
    return np.asarray((1 + len(known) - np.searchsorted(np.sort(known), scores)) / (len(known) + 1))


def test_the_bound_holds_if_the_scores_that_calibrate_are_a_little_higher_and_lower_ones_do_not_count() -> None:
    rng = np.random.default_rng(0)
    alarms = {True: 0, False: 0}
    for run in range(100):
        where = places(p_values_fast(rng.normal(size=100) + 0.5, rng.normal(size=1500)), 100, run)
        for two_sided in alarms:
            alarms[two_sided] += evidence(where, 100, 20, two_sided=two_sided).alarm is not None
    assert alarms[False] <= 5
    assert alarms[True] > 50


@pytest.mark.parametrize("before", [0, 300])
@pytest.mark.parametrize(("by", "spread", "shift"), [(1.5, 1, "higher"), (-1.5, 1, "lower"), (0, 4, "farther apart")])
def test_a_change_is_seen_and_dated(before: int, by: float, spread: float, shift: str) -> None:
    errors = []
    for seed in range(9):
        rng = np.random.default_rng(seed)
        found = found_in(rng.normal(size=200), changed(rng, before, 120, by, spread))
        assert found.shift == shift
        assert found.alarm is not None
        assert found.since is not None
        assert before < found.alarm < before + 90
        assert (found.log10[: found.alarm] < 2).all()
        assert found.log10[found.alarm] >= 2
        errors.append(abs(found.since - before))
    assert np.median(errors) <= 3


def test_scores_that_are_too_much_alike_are_drift_too() -> None:
    rng = np.random.default_rng(1)
    assert found_in(rng.normal(size=300), changed(rng, 0, 200, spread=0.1)).shift == "closer together"


def test_scores_that_fall_on_the_way_are_seen_even_where_lower_than_calibrated_does_not_count() -> None:
    rng = np.random.default_rng(2)
    known = rng.normal(size=100)
    found = found_in(known, changed(rng, 300, 150, -1.5), two_sided=False)
    assert (found.shift, found.alarm is not None) == ("lower", True)
    assert found_in(known, changed(rng, 0, 150, -1.5), two_sided=False).alarm is None
    assert found_in(known, changed(rng, 0, 150, -1.5), two_sided=True).alarm is not None


def test_single_odd_images_raise_no_alarm() -> None:
    rng = np.random.default_rng(3)
    scores = rng.normal(size=400)
    scores[[50, 51, 200, 300, 301]] = 100
    assert found_in(rng.normal(size=200), scores).alarm is None


def test_the_evidence_of_a_long_stream_stays_finite_and_never_falls_far() -> None:
    rng = np.random.default_rng(4)
    known = rng.normal(size=500)
    assert np.isfinite(found_in(known, changed(rng, 5000, 5000, 9)).log10).all()
    quiet = found_in(known, rng.normal(size=3000)).log10
    assert (10**quiet >= 0.5 / np.log2(np.arange(1, 3001) + 2) - 1e-12).all()


def test_the_same_p_values_give_the_same_evidence() -> None:
    rng = np.random.default_rng(5)
    known, scores = rng.normal(size=20), rng.normal(size=200)
    np.testing.assert_array_equal(found_in(known, scores).log10, found_in(known, scores).log10)


@pytest.mark.parametrize(
    "wrong",
    [[], [[0.5]], [0.5, np.nan], [0.0], [1.1], [0.5, 0.33], [np.inf], [1e308], ["high"], [[1], [1, 1]], [10**400]],
)
def test_p_values_that_no_such_model_gives_are_refused(wrong: list[float]) -> None:
    with pytest.raises(SettingError, match="p-value"):
        places(wrong, 9)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # scipy's, where it cannot count all paths
@given(st.integers(1, 40), st.integers(1, 60), st.floats(-1, 1), st.integers(0, 99))
def test_the_test_of_a_window_is_that_of_the_scores_themselves(count: int, size: int, by: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    known, scores = rng.normal(size=count), rng.normal(size=size) + by
    where = places(p_values(known, scores), count, seed)
    both = ks_2samp(scores, known, "two-sided").pvalue
    assert window_p_value(where, count, two_sided=True) == pytest.approx(both)
    higher = ks_2samp(scores, known, "less").pvalue
    assert window_p_value(where, count, two_sided=False) == pytest.approx(higher)


def test_one_look_at_a_window_is_wrong_as_rarely_as_its_p_value_says_with_few_scores() -> None:
    rng = np.random.default_rng(6)
    found = [
        window_p_value(places(p_values_fast(rng.normal(size=20), rng.normal(size=100)), 20), 20, two_sided=True)
        for _ in range(400)
    ]
    assert np.mean(np.array(found) <= 0.1) <= 0.1 + 3 * (0.09 / 400) ** 0.5


def test_the_test_of_a_window_goes_on_where_counting_is_too_long() -> None:
    rng = np.random.default_rng(8)
    where = places(p_values_fast(rng.normal(size=3000), rng.normal(size=1000) - 0.02), 3000)
    for two_sided in (True, False):
        assert 0.01 < window_p_value(where, 3000, two_sided=two_sided) <= 1


@given(st.lists(st.integers(0, 20), max_size=60))
def test_the_images_before_each_that_score_higher_are_counted(places: list[int]) -> None:
    counted = [sum(other < place for other in places[:index]) for index, place in enumerate(places)]
    assert drift._before(np.array(places, np.float64)).tolist() == counted


def test_a_million_images_take_seconds() -> None:
    where = np.random.default_rng(0).uniform(0, 100, 1_000_000)
    start = time.process_time()
    drift._before(where)
    assert time.process_time() - start < 20  # one by one it takes minutes


def test_the_running_mean_is_that_of_the_latest() -> None:
    values = np.random.default_rng(7).random(30)
    slow = [values[max(0, end - 8) : end].mean() for end in range(1, 31)]
    np.testing.assert_allclose(running_mean(values, 8), slow)
