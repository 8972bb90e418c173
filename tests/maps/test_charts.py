"""Charts: lines where their values are."""

from __future__ import annotations

import numpy as np

from blemish.maps.charts import HEIGHT, LINE, MARGINS, WIDTH, chart


def test_a_line_runs_where_its_values_are_and_is_cut_off_at_the_edge() -> None:
    top, right, bottom, left = MARGINS
    values = np.array([0.0] * 50 + [1.0] * 49 + [99.0])
    pixels = chart(values, (0, 1), {}, level=0.5)
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    is_line = (pixels == LINE).all(2)
    assert is_line[HEIGHT - bottom, left + 10 : WIDTH // 2 - 30].all()
    assert is_line[top, WIDTH // 2 + 40 : WIDTH - right - 10].all()
    assert not is_line[:top].any()
    middle = (top + HEIGHT - bottom) // 2
    reddest = (pixels[middle - 2 : middle + 3, left + 10 : left + 300].astype(int) @ [1, -1, 0]).max(0)
    assert (reddest > 50).all()


def test_the_value_of_a_single_image_can_be_seen() -> None:
    pixels = chart(np.array([0.5]), (0, 1), {})
    assert (pixels == LINE).all(2).any()


def test_a_chart_of_one_image_or_very_many_can_be_drawn() -> None:
    for count in (1, 20_000):
        values = np.linspace(0, 1, count)
        assert chart(values, (0, 1), {0: "0", 1: "1"}, points=values, marks=(0, count - 1)).shape == (HEIGHT, WIDTH, 3)
