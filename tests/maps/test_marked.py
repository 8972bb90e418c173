from __future__ import annotations

import numpy as np

from blemish.maps import Box, heat_layer, heat_map, marked
from blemish.maps.pictures import CONTOUR, OUTLINE, STRONGEST

IMAGE = np.random.default_rng(0).integers(0, 255, (40, 60, 3)).astype(np.uint8)


def test_a_photograph_stays_as_it_is_where_its_map_is_like_that_of_good_images() -> None:
    values = np.full((20, 30), 0.5, np.float32)
    assert np.array_equal(marked(IMAGE, values, (0.0, 1.0), 0.9, []), IMAGE)


def test_colours_never_hide_the_photograph_and_are_those_of_the_heat_map() -> None:
    values = np.full((40, 60), 5.0, np.float32)
    mixed = marked(IMAGE, values, (0.0, 1.0), 9.0, []).astype(float)
    colour = heat_map(values, (0.0, 1.0)).astype(float)
    share = round(255 * STRONGEST) / 255
    assert np.abs(mixed - (IMAGE + share * (colour - IMAGE))).max() <= 0.51
    layer = heat_layer(np.array([[0.0, 0.5, 0.55, 1.0]], np.float32), (0.0, 1.0))
    assert layer[0, :2, 3].tolist() == [0, 0]
    assert 0 < layer[0, 2, 3] < layer[0, 3, 3]


def test_a_contour_encloses_what_lies_above_the_level_and_a_box_is_drawn_over_it() -> None:
    values = np.zeros((40, 60), np.float32)
    values[10:20, 10:30] = 0.4
    picture = marked(IMAGE, values, (0.0, 1.0), 0.3, [Box(5, 40, 15, 50, 100, 1.0)])
    line = (picture == CONTOUR).all(2)
    assert line.sum() == 2 * 20 + 2 * 10, "the pixels around the part"
    assert line[9, 10:30].all()
    assert tuple(picture[4, 39]) == OUTLINE
    assert np.array_equal(picture[10:20, 10:30], IMAGE[10:20, 10:30]), "it is below the middle of the scale"


def test_what_is_small_in_a_large_photograph_is_seen_within_its_lines() -> None:
    photograph = np.full((300, 900, 3), 90, np.uint8)
    photograph[100:106, :6], photograph[200:206, 300:306] = 10, 10
    values = np.where(photograph[..., 0] == 10, 0.4, 0.0).astype(np.float32)
    boxes = [Box(100, 0, 106, 6, 36, 0.4), Box(200, 300, 206, 306, 36, 0.4)]
    changed = (marked(photograph, values, (0.0, 1.0), 0.3, boxes) != photograph).any(2)
    assert not changed[200:206, 300:306].any()
    assert changed[197:200, 297:309].all()
    assert changed.sum() < 2 * 12 * 12, "and nothing farther away"
    assert not changed[100:106, 3:6].any(), "at the border a line has to lie inside"
