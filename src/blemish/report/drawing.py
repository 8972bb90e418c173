"""Axes, histograms and curves as coordinates in a drawing; templates turn them into SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from blemish.datasets import evenly_spaced
from blemish.metrics.ranking import Floats

BINS, P_BINS = 40, 10
WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 560, 300, 48, 40, 12
"""Size of a drawing and its margins, in pixels."""

UNIT = {"left": LEFT, "right": WIDTH - TOP, "top": TOP, "bottom": HEIGHT - BOTTOM}
"""Where a curve between 0 and 1 is drawn."""

POINTS = 400
"""Points of a curve, at most."""

Tick = tuple[float, str]
Bar = tuple[float, float, float, float]
"""Left, top, width and height."""


@dataclass(frozen=True)
class Axis:
    """Maps values to coordinates along one side of a drawing, linear or logarithmic."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def place(self, value: float) -> float:
        if self.logarithmic:
            share = (math.log(value) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        else:
            share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 2)

    def ticks(self) -> list[Tick]:
        """Returns coordinates and labels of about five round values."""
        if self.logarithmic:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            values = [digit * 10.0**decade for decade in decades for digit in (1, 2, 5)]
        else:
            rough = (self.high - self.low) / 5
            step = min((d * 10.0 ** math.floor(math.log10(rough)) for d in (1, 2, 5, 10)), key=lambda s: abs(s - rough))
            values = [step * number for number in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]
        return [(self.place(value), f"{value:.6g}") for value in values if self.low <= value <= self.high]


@dataclass(frozen=True)
class Histogram:
    """Bars of each class, and the ticks of both sides.

    Attributes:
        bars: by class, `good` and `anomalous`.
        across, upward: ticks.
        even: height at which all bins hold equally many; `None` if no such line is drawn.
    """

    bars: dict[str, list[Bar]]
    across: list[Tick]
    upward: list[Tick]
    even: float | None = None


@dataclass(frozen=True)
class Line:
    """A curve of one model: its name, the points for SVG, and the number of its colour and dashes."""

    name: str
    points: str
    number: int


@dataclass(frozen=True)
class Curves:
    """Curves of one kind in one drawing.

    Attributes:
        title: of the drawing.
        below, beside: names of the axes.
        across, upward: ticks.
        lines: one for each model that has the curve.
    """

    title: str
    below: str
    beside: str
    across: list[Tick]
    upward: list[Tick]
    lines: list[Line] = field(default_factory=list)


def score_axis(scores: Floats) -> Axis:
    """Returns an axis that holds these scores: logarithmic if they span more than a decade."""
    low, high = float(scores.min()), float(scores.max())
    if low == high:
        low, high = low - 0.5, high + 0.5
    return Axis(low, high, LEFT, WIDTH - TOP, logarithmic=low > 0 and high / low > 10)


def score_histogram(axis: Axis, good: Floats, anomalous: Floats) -> Histogram:
    """Returns how often scores occur, for each class."""
    spaced = np.geomspace if axis.logarithmic else np.linspace
    edges = spaced(axis.low, axis.high, BINS + 1)
    edges[0], edges[-1] = axis.low, axis.high  # exactly
    counts = {"good": np.histogram(good, edges)[0], "anomalous": np.histogram(anomalous, edges)[0]}
    most = max(int(count.max()) for count in counts.values())
    upward = Axis(0, max(most, 1), HEIGHT - BOTTOM, TOP)
    bars = {kind: _bars(axis, upward, edges, found) for kind, found in counts.items()}
    return Histogram(bars, axis.ticks(), _whole(upward))


def p_value_histogram(p_values: Sequence[float]) -> Histogram | None:
    """Returns how often p-values of good images occur; `None` if there are none."""
    if not p_values:
        return None
    counts, edges = np.histogram(p_values, P_BINS, (0.0, 1.0))
    across = Axis(0, 1, UNIT["left"], UNIT["right"])
    upward = Axis(0, int(counts.max()), UNIT["bottom"], UNIT["top"])
    bars = {"good": _bars(across, upward, edges, counts)}
    return Histogram(bars, across.ticks(), _whole(upward), upward.place(len(p_values) / P_BINS))


def draw_curves(
    title: str, below: str, beside: str, points: Sequence[tuple[str, tuple[Floats, Floats] | None]], limit: float = 1.0
) -> Curves | None:
    """Returns the curves of models in one drawing, up to 1 vertically and `limit` horizontally; `None` if none.

    Args:
        title, below, beside: as in `Curves`.
        points: of each model, in order: its name, and its points across and upward, or `None`.
        limit: the end of the horizontal axis.
    """
    across = Axis(0, limit, UNIT["left"], UNIT["right"])
    upward = Axis(0, 1, UNIT["bottom"], UNIT["top"])
    lines = []
    for number, (name, found) in enumerate(points):
        if found is not None:
            places = evenly_spaced(len(found[0]), POINTS)
            drawn = (f"{across.place(float(found[0][i]))},{upward.place(float(found[1][i]))}" for i in places)
            lines.append(Line(name, " ".join(drawn), number))
    return Curves(title, below, beside, across.ticks(), upward.ticks(), lines) if lines else None


def _bars(across: Axis, upward: Axis, edges: Floats, counts: Floats) -> list[Bar]:
    return [
        (
            across.place(float(low)),
            upward.place(float(count)),
            round(across.place(float(high)) - across.place(float(low)), 2),
            round(upward.start - upward.place(float(count)), 2),
        )
        for low, high, count in zip(edges, edges[1:], counts, strict=False)
        if count
    ]


def _whole(axis: Axis) -> list[Tick]:
    return [tick for tick in axis.ticks() if "." not in tick[1]]
