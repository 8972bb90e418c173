"""What detectors that are trained have in common."""

from __future__ import annotations

from dataclasses import fields

import pytest

from blemish.detectors import DETECTORS, Trained, make_detector
from blemish.errors import SettingError
from blemish.training import Schedule

NAMES = [name for name, kind in DETECTORS.items() if issubclass(kind, Trained)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("epochs", 0),
        ("epochs", 1.5),
        ("batch", -1),
        ("drawn", 0),
        ("learning_rate", "fast"),
        ("learning_rate", 1e40),
        ("minutes", 0),
        ("precision", "8-bit"),
        ("patience", True),
        ("seed", -1),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused_when_the_detector_is_made(
    name: str, setting: str, value: object
) -> None:
    with pytest.raises(SettingError, match=setting):
        make_detector(name, {setting: value})


@pytest.mark.parametrize("name", NAMES)
def test_its_schedule_is_what_it_was_set_to(name: str) -> None:
    detector = make_detector(name, {"epochs": 3, "patience": None})
    assert isinstance(detector, Trained)
    schedule = detector.schedule()
    assert (schedule.epochs, schedule.patience) == (3, None)
    assert all(getattr(schedule, field.name) == detector.settings()[field.name] for field in fields(Schedule))
