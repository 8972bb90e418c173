from __future__ import annotations

import numpy as np
import pytest

from blemish.maps import Panel, resized, sheet
from blemish.maps.pictures import GAP


def plain(height: int, width: int, colour: int) -> np.ndarray:
    return np.full((height, width, 3), (colour, 0, 0), np.uint8)


def where(picture: np.ndarray, colour: int) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.nonzero((picture == (colour, 0, 0)).all(2))
    return rows, columns


def test_a_sheet_keeps_the_proportions_of_every_picture() -> None:
    picture = sheet([[Panel(plain(30, 120, 10)), Panel(plain(120, 30, 20))], [Panel(plain(50, 50, 30))]], side=100)
    for colour, shape in ((10, (50, 200)), (20, (200, 50)), (30, (100, 100))):
        rows, columns = where(picture, colour)
        assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == shape
    assert where(picture, 30)[0].min() == where(picture, 20)[0].max() + 1 + GAP


def test_captions_wider_than_their_pictures_do_not_meet() -> None:
    row = [Panel(plain(1000, 100, 10), "a caption of many words\nand a line"), Panel(plain(1000, 100, 20), "another")]
    picture = sheet([row], side=60)
    below = where(picture, 10)[0].max() + 1
    second = where(picture, 20)[1].min()
    written = (picture[below:] < 128).any((0, 2))
    assert written[:second].any()
    assert not written[second - GAP : second].any(), "nothing is written between the columns"


def test_resizing_to_the_same_shape_changes_nothing_and_of_a_map_keeps_the_values() -> None:
    values = np.random.default_rng(0).normal(size=(8, 12)).astype(np.float32)
    assert resized(values, (8, 12)) is values
    assert resized(np.full_like(values, 1e6), (20, 5)) == pytest.approx(np.full((20, 5), 1e6))
