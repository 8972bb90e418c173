from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import blemish
from blemish.backbones import DEFAULT, canonical_name
from blemish.backbones.names import PACKAGED
from blemish.detectors import DETECTORS, make_detector
from blemish.errors import SettingError
from blemish.fitting.choices import Choices, choose
from blemish.fitting.quality import BALANCED, QUALITIES
from blemish.fitting.virtual import ENOUGH, copies_of_each
from blemish.images import Geometry

NAMES = ("detector", "settings", "backbone", "layers", "size", "crop", "tile", "overlap", "preset", "quality")


def chosen(**given: Any) -> Choices:
    return choose(**{**dict.fromkeys(NAMES), **given}, weights=False, seed=0)


@pytest.mark.parametrize("name", QUALITIES)
def test_a_rung_gives_the_backbone_and_the_size_that_nothing_else_gives(name: str) -> None:
    rung, found = QUALITIES[name], chosen(quality=name)
    assert found.backbone == canonical_name(rung.backbone)
    assert found.geometry == Geometry(rung.size, rung.size)
    assert found.in_proportion
    assert chosen(quality=name, backbone="resnet18", size=64).backbone == "resnet18"
    assert chosen(quality=name, size=64).geometry == Geometry(64, 64)


def test_without_a_quality_it_is_balanced() -> None:
    assert chosen() == chosen(quality=BALANCED)
    assert chosen().copies == QUALITIES[BALANCED].copies


def test_each_rung_costs_more_than_the_one_below() -> None:
    sizes = [rung.size for rung in QUALITIES.values()]
    assert sizes == sorted(set(sizes))
    assert QUALITIES[BALANCED].backbone == DEFAULT


def test_the_weights_of_every_rung_come_as_packages() -> None:
    assert {canonical_name(rung.backbone) for rung in QUALITIES.values()} <= PACKAGED.keys()


def test_the_size_of_a_rung_is_not_that_of_tiles() -> None:
    assert chosen(quality="best", tile=128).geometry == Geometry(128, 128, tile=128, overlap=32)


def test_a_rung_beside_a_preset_is_refused() -> None:
    with pytest.raises(SettingError, match="preset fre-lite0-1l has a backbone and a size of its own; leave out"):
        chosen(quality="fast", preset="fre-lite0-1l")


def test_a_rung_for_a_detector_that_looks_at_the_images_is_refused() -> None:
    with pytest.raises(SettingError, match="vae takes the images themselves, .* leave out .* quality"):
        chosen(quality="best", detector="vae")


def test_an_unknown_rung_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SettingError, match="no quality is called 'better'; give one of fast, balanced, best"):
        chosen(quality="better")


def test_copies_fill_up_to_enough_and_are_at_most_those_of_the_rung() -> None:
    fre = make_detector("fre")
    for most in (0, 2, 4):
        counts = [copies_of_each(None, most, fre, rows) for rows in (1, ENOUGH // 4, ENOUGH // 2, ENOUGH)]
        assert counts == [most, min(most, 3), min(most, 1), 0]
        assert copies_of_each(3, most, fre, ENOUGH) == 3, "a number that is asked for is taken"
    for name in DETECTORS.keys() - {"fre"}:
        assert copies_of_each(None, 4, make_detector(name), 1) == 0


def test_a_model_keeps_what_the_rung_came_to(tree: Path) -> None:
    fast = blemish.fit(tree, quality="fast", layers=[3])
    again = blemish.fit(tree, backbone=DEFAULT, size=QUALITIES["fast"].size, layers=[3], copies=0)
    assert fast.recipe == again.recipe
    assert fast.recipe.copies == 0
