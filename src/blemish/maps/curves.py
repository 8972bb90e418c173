"""Charts of a few lines as pictures, such as a loss over epochs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFont

from blemish.images import Pixels
from blemish.maps.charts import SCALE
from blemish.maps.pictures import LETTERS

HEIGHT, WIDTH = 300, 460
MARGINS = (26, 16, 40, 64)
"""Pixels above, right, below and left of what is drawn."""

COLOURS = ((20, 70, 150), (200, 60, 30), (30, 130, 60), (130, 60, 150), (150, 110, 20), (90, 90, 90))
"""Colours of the lines, in order; a seventh line has the first one again."""

TICKS = 5
"""About how many values are written beside each axis."""

Curve = tuple[Sequence[float], Sequence[float]]
"""Places across and values, as many of each, in order."""


def curves(
    lines: Mapping[str, Curve],
    across: str,
    upright: str,
    errors: Mapping[str, Sequence[float]] | None = None,
) -> Pixels:
    """Returns a chart of a few lines with their names, uint8 (300, 460, 3); its bounds are those of the numbers.

    Args:
        lines: by name; a line needs a point at least, and all numbers are finite.
        across: name of the axis across.
        upright: name of the other axis.
        errors: of a line's values, by its name; they are shaded above and below it.
    """
    errors = errors or {}
    top, right, bottom, left = (SCALE * margin for margin in MARGINS)
    size = (SCALE * WIDTH, SCALE * HEIGHT)
    picture = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(SCALE * (LETTERS - 1))
    bands = {name: _band(line, errors[name]) for name, line in lines.items() if name in errors}
    every = [*lines.values(), *bands.values()]
    places, values = (_bounds([number for line in every for number in line[axis]]) for axis in (0, 1))

    def at(place: float, value: float) -> tuple[float, float]:
        x = left + (size[0] - left - right) * (place - places[0]) / (places[1] - places[0])
        y = top + (size[1] - top - bottom) * (values[1] - value) / (values[1] - values[0])
        return x, y

    for place in _ticks(*places):
        x, y = at(place, values[0])
        draw.line((x, top, x, y), (225, 225, 225), SCALE)
        draw.text((x, y + 4 * SCALE), f"{place:g}", "black", font, anchor="mt")
    for value in _ticks(*values):
        x, y = at(places[0], value)
        draw.line((x, y, size[0] - right, y), (225, 225, 225), SCALE)
        draw.text((x - 4 * SCALE, y), f"{value:g}", "black", font, anchor="rm")
    draw.text(((left + size[0] - right) / 2, size[1] - 4 * SCALE), across, "black", font, anchor="ms")
    draw.text((4 * SCALE, 4 * SCALE), upright, "black", font, anchor="lt")
    for number, name in enumerate(lines):
        if name in bands and len(lines[name][0]) > 1:
            pale = tuple((channel + 4 * 255) // 5 for channel in COLOURS[number % len(COLOURS)])
            shade = Image.new("RGB", size, "white")
            ImageDraw.Draw(shade).polygon([at(*point) for point in zip(*bands[name], strict=True)], fill=pale)
            picture.paste(ImageChops.multiply(picture, shade))  # so that bands that meet are both seen
    end = float(size[0] - right)  # of the names, which stand in a line above
    for number, (name, line) in reversed(list(enumerate(lines.items()))):
        colour = COLOURS[number % len(COLOURS)]
        draw.text((end, 4 * SCALE), name, colour, font, anchor="rt")
        end -= draw.textlength(name, font) + 12 * SCALE
        points = [at(*point) for point in zip(*line, strict=True)]
        if len(points) > 1:
            draw.line(points, colour, 2 * SCALE - 1, joint="curve")
        else:
            draw.circle(points[0], 2 * SCALE, colour)
    return np.asarray(picture.reduce(SCALE))


def _band(line: Curve, errors: Sequence[float]) -> Curve:
    """Returns the outline of what lies within the errors of a line: above from left to right, and below back."""
    above = [value + error for value, error in zip(line[1], errors, strict=True)]
    below = [value - error for value, error in zip(line[1], errors, strict=True)]
    return [*line[0], *reversed(line[0])], [*above, *reversed(below)]


def _bounds(numbers: Sequence[float]) -> tuple[float, float]:
    """Returns the smallest and the largest number, apart from each other in any case."""
    low, high = min(numbers), max(numbers)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _ticks(low: float, high: float) -> list[float]:
    """Returns round numbers between two, with steps of 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10((high - low) / TICKS))
    step = power * next(factor for factor in (1, 2, 5, 10) if (high - low) / (factor * power) <= TICKS + 1)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]
