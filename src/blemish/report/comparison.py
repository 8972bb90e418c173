"""Writes a comparison of models as one self-contained HTML page: a table, and a drawing of detection against time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from blemish.errors import require
from blemish.maps import page_template
from blemish.report.drawing import BOTTOM, TOP, Axis
from blemish.storage import new_file, signed

if TYPE_CHECKING:
    from blemish.evaluation.compare import Compared, Comparison, Detection

WIDTH, HEIGHT, LEFT = 720, 360, 64
"""Size of the drawing and its left margin, in pixels; the other margins are those of an evaluation's page."""

RADIUS, LINE, LETTER = 6, 17, 7.5
"""Radius of a point, height of a line and width of a letter, in pixels."""

LEAST = 0.5
"""Points of AUROC above the best and below the worst model, so that small differences do not look large."""


Box = tuple[float, float, float, float]
"""The middle of a rectangle, and half its width and height."""


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Attributes:
        head: its heading.
        figure: returns the figure of a row.
        digits: after the point.
        best: `min` or `max`, whichever is better; `None` if neither is.
    """

    head: str
    figure: Callable[[Compared], float | None]
    digits: int
    best: Callable[[Iterable[float]], float] | None = None


@dataclass(frozen=True)
class Cell:
    """A figure as text, and whether it is the best of its column."""

    text: str
    is_best: bool


@dataclass(frozen=True)
class Point:
    """A model in the drawing: its place, and where the middle of its name is."""

    name: str
    x: float
    y: float
    label: tuple[float, float]


def _percent(figure: Callable[[Detection], float | None]) -> Callable[[Compared], float | None]:
    """Returns a function that returns a figure of detection in per cent, or `None` if there is none."""

    def found(row: Compared) -> float | None:
        own = None if row.detection is None else figure(row.detection)
        return None if own is None else 100 * own

    return found


TAKES = [
    Column("fit\N{NO-BREAK SPACE}s", lambda row: row.fit_seconds, 1, min),
    Column("ms an image", lambda row: 1000 * row.seconds_per_image, 1, min),
    Column("MB", lambda row: row.bytes / 1e6, 1, min),
]
DETECTS = [
    Column("false alarms", _percent(lambda found: found.false_alarm_rate), 1),
    Column("detected", _percent(lambda found: found.detection_rate), 1),
    Column("image AUROC", _percent(lambda found: found.image_auroc), 2, max),
    Column("pixel AUROC", _percent(lambda found: found.pixel_auroc), 2, max),
    Column("AUPRO", _percent(lambda found: found.aupro), 2, max),
]


def write_comparison(comparison: Comparison, path: Path, *, force: bool = False) -> None:
    """Writes the page, whole or not at all; it loads nothing from elsewhere.

    Raises:
        MissingExtraError: jinja2 is not installed.
        StorageError: the path exists and may not be replaced, or cannot be written.
    """
    require("jinja2", of="a report", extra="report")
    rows = comparison.rows
    detects = DETECTS if comparison.dataset.test else []
    points, across, upward = _drawing(rows)
    page = page_template("blemish.report", "comparison.html").render(
        comparison=comparison,
        takes=[column.head for column in TAKES],
        detects=[column.head for column in detects],
        rows=list(zip(rows, _cells(rows, TAKES), _cells(rows, detects), strict=True)),
        points=points,
        across=across,
        upward=upward,
        size=(WIDTH, HEIGHT, LEFT, BOTTOM, TOP),
    )
    with new_file(path, force=force) as temporary:
        temporary.write_text(signed(page), encoding="utf-8", newline="\n")


def _cells(rows: list[Compared], columns: list[Column]) -> list[list[Cell]]:
    """Returns the cells of each row."""
    found: list[list[Cell]] = [[] for _ in rows]
    for column in columns:
        texts = ["–" if (own := column.figure(row)) is None else f"{own:.{column.digits}f}" for row in rows]
        known = {float(text) for text in texts if text != "–"}
        best = column.best(known) if column.best and len(known) > 1 else None
        for cells, text in zip(found, texts, strict=True):
            cells.append(Cell(text, text != "–" and float(text) == best))
    return found


def _drawing(
    rows: list[Compared],
) -> tuple[list[Point], list[tuple[float, str]], list[tuple[float, str]]]:
    """Returns the models with an image AUROC as points, and the ticks of both axes; nothing for fewer than two."""
    found = [
        (row.name, 1000 * row.seconds_per_image, 100 * row.detection.image_auroc)
        for row in rows
        if row.detection is not None and row.detection.image_auroc is not None
    ]
    if len(found) < 2:
        return [], [], []
    low, high = min(own for *_, own in found), max(own for *_, own in found)
    room = max(0.1 * (high - low), LEAST)
    across = Axis(0, 1.15 * max(time for _, time, _ in found), LEFT, WIDTH - TOP)
    upward = Axis(max(0.0, low - room), min(100.0, high + room), HEIGHT - BOTTOM, TOP)
    dots = [(across.place(time), upward.place(own)) for _, time, own in found]
    taken: list[Box] = [(x, y, RADIUS, RADIUS) for x, y in dots]
    points = []
    for (name, *_), (x, y) in zip(found, dots, strict=True):
        box = _free(x, y, LETTER * len(name) / 2, taken)
        taken.append(box)
        points.append(Point(name, x, y, box[:2]))
    return points, across.ticks(), upward.ticks()


def _free(x: float, y: float, half: float, taken: list[Box]) -> Box:
    """Returns a free box for a name beside a point: as near as possible, preferably on the right.

    Args:
        x, y: of the point.
        half: of the name's width.
        taken: boxes that it must not overlap.
    """
    aside = RADIUS + 4 + half
    places = [(x + side, y + step * LINE) for step in (0, 1, -1, 2, -2, 3, -3) for side in (aside, -aside)]
    boxes = [(across, down, half, LINE / 2) for across, down in places]
    inside = [
        box
        for box in boxes
        if box[0] - half > LEFT and box[0] + half < WIDTH and TOP <= box[1] < HEIGHT - BOTTOM - LINE
    ]
    free = [box for box in inside if not any(_meet(box, other) for other in taken)]
    return (free or inside or boxes)[0]


def _meet(one: Box, other: Box) -> bool:
    return abs(one[0] - other[0]) < one[2] + other[2] and abs(one[1] - other[1]) < one[3] + other[3]
