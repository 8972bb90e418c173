from __future__ import annotations

import numpy as np

from blemish.maps.curves import COLOURS, HEIGHT, MARGINS, WIDTH, curves


def test_lines_run_between_the_corners_of_their_numbers_each_in_its_colour() -> None:
    top, right, bottom, left = MARGINS
    pixels = curves({"up": ([0, 10], [0, 1]), "down": ([0, 10], [1, 0])}, "across", "upright")
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    for colour, turned in zip(COLOURS[:2], (False, True), strict=True):
        rows, columns = np.nonzero((pixels[top:] == colour).all(2))
        assert columns.min() < left + 3
        assert columns.max() > WIDTH - right - 3
        assert (rows[columns.argmin()] < rows[columns.argmax()]) == turned
        assert HEIGHT - top - bottom - 3 < np.ptp(rows) <= HEIGHT - top - bottom + 1


def test_a_single_point_and_a_level_line_can_be_drawn() -> None:
    pixels = curves({"point": ([1], [5]), "level": ([0, 1, 2], [-3e7, -3e7, -3e7])}, "epoch", "loss")
    assert all((pixels == colour).all(2).any() for colour in COLOURS[:2])


def test_errors_are_shaded_on_both_sides_of_a_line_and_bands_that_meet_are_both_seen() -> None:
    lines = {"one": ([0.0, 10.0], [5.0, 5.0]), "other": ([0.0, 10.0], [7.0, 7.0])}
    plain = curves(lines, "across", "upright").astype(int)
    shaded = curves(lines, "across", "upright", {"one": [2.0, 2.0], "other": [1.0, 1.0]}).astype(int)
    middle = shaded[26:260, 260]
    colours = {tuple(colour) for colour in middle.tolist()}
    assert len(colours) > len({tuple(colour) for colour in plain[26:260, 260].tolist()}) + 1
    darkest = min(sum(colour) for colour in colours if max(colour) - min(colour) < 90)
    assert darkest < 3 * 220, "where both bands are"
