"""Charts of a value for each of many images, as pictures."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from blemish.images import Pixels
from blemish.maps.pictures import LETTERS

HEIGHT, WIDTH = 200, 760
MARGINS = (8, 24, 20, 56)
"""Pixels above, right, below and left of what is drawn."""

SCALE = 3
"""The chart is drawn this many times as large and then shrunk, which smooths its lines."""

APART = 50
"""The smallest distance, in pixels, at which two numbers of images are both written."""

MOST_POINTS = 4000
"""The largest number of points that are drawn; if there are more, evenly spaced ones are."""

POINT, LINE, LEVEL, MARK = (150, 165, 185), (20, 70, 150), (200, 30, 30), (200, 30, 30)


def chart(
    line: NDArray[np.float64],
    bounds: tuple[float, float],
    ticks: Mapping[float, str],
    *,
    points: NDArray[np.float64] | None = None,
    level: float | None = None,
    marks: tuple[int, ...] = (),
) -> Pixels:
    """Returns a chart over the numbers 1 to T of images, uint8 (200, 760, 3).

    Args:
        line: values joined by a line (T,).
        bounds: values at the bottom and at the top; what lies beyond is drawn there.
        ticks: values with a grey line across, and what is written beside them.
        points: values drawn as points (T,).
        level: a value with a red line across.
        marks: indices of images with a red line upright.
    """
    top, right, bottom, left = (SCALE * margin for margin in MARGINS)
    size = (SCALE * WIDTH, SCALE * HEIGHT)
    picture = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(SCALE * (LETTERS - 1))
    low, high = bounds
    count = len(line)

    def across(index: NDArray[np.int64] | int) -> NDArray[np.float64]:
        return np.asarray(left + (size[0] - left - right) * (np.asarray(index) + 0.5) / count)

    def upright(value: NDArray[np.float64] | float) -> NDArray[np.float64]:
        return np.asarray(top + (size[1] - top - bottom) * (high - np.clip(value, low, high)) / (high - low))

    for value, text in ticks.items():
        y = float(upright(value))
        draw.line((left, y, size[0] - right, y), (225, 225, 225), SCALE)
        draw.text((left - 2 * SCALE, y), text, "black", font, anchor="rm")
    if points is not None:
        for index in np.linspace(0, count - 1, min(count, MOST_POINTS)).astype(int).tolist():
            x, y = float(across(index)), float(upright(points[index]))
            draw.ellipse((x - 4, y - 4, x + 4, y + 4), POINT)
    for index in marks:
        draw.line((float(across(index)), top, float(across(index)), size[1] - bottom), MARK, SCALE)
    if level is not None:
        draw.line((left, float(upright(level)), size[0] - right, float(upright(level))), LEVEL, SCALE)
    places = np.stack([across(np.arange(count)), upright(line)], 1)
    draw.line([(x, y) for x, y in places.tolist()], LINE, 2 * SCALE - 1)
    if count == 1:  # no line can be seen
        draw.circle(places[0].tolist(), 2 * SCALE, LINE)
    told: list[float] = []
    for index in (*marks, count - 1, 0):
        x = float(across(index))
        if all(abs(x - other) > APART * SCALE for other in told):
            draw.text((x, size[1] - 4 * SCALE), str(index + 1), "black", font, anchor="ms")
            told.append(x)
    return np.asarray(picture.reduce(SCALE))
