"""Each setting of each detector says what it may be, and its default is that."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from blemish.detectors import DETECTORS, make_detector, settings_of
from blemish.errors import SettingError
from conftest import ROOT


@pytest.mark.parametrize("name", DETECTORS)
def test_each_setting_has_a_kind_that_takes_its_default_and_stands_on_the_page_of_detectors(name: str) -> None:
    page = (ROOT / "docs" / "detectors.md").read_text()
    listed = settings_of(name)
    assert [setting.name for setting in listed] == DETECTORS[name].setting_names()
    for setting in listed:
        assert DETECTORS[name].kinds()[setting.name].read(setting.name, setting.default) == setting.default
        assert f"| `{setting.name}` | {setting.expected} |" in page


def test_no_detector_has_a_kind_for_a_setting_that_it_does_not_have() -> None:
    for kind in DETECTORS.values():
        assert kind.kinds().keys() == set(kind.setting_names())


@pytest.mark.parametrize("dims", [2, 2.0, np.int32(2), np.float32(2), np.uint8(2), Fraction(2)])
def test_a_whole_number_of_any_kind_becomes_pythons_own(dims: object) -> None:
    found = make_detector("padim", {"dims": dims}).settings()["dims"]
    assert (found, type(found)) == (2, int)


@pytest.mark.parametrize("dims", [True, np.True_, 2.5, "2", None, [2], np.array([2]), 2j, 10**400, Fraction(5, 2)])
def test_what_is_no_whole_number_is_refused(dims: object) -> None:
    with pytest.raises(SettingError, match="padim: dims is .*; expected a whole number from 1 to 65,536"):
        make_detector("padim", {"dims": dims})


def test_lists_and_arrays_that_hold_the_same_make_equal_detectors() -> None:
    assert make_detector("fre", {"weights": [1, 2]}) == make_detector("fre", {"weights": (np.float64(1), 2.0)})


def test_a_value_that_cannot_be_printed_is_refused_in_a_sentence() -> None:
    deep: list[object] = []
    for _ in range(10_000):
        deep = [deep]
    for value in (10**5000, deep):
        with pytest.raises(SettingError, match="too long to show; expected"):
            make_detector("fre", {"variance": value})
