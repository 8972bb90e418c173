"""Draws and writes the curves of evaluations: ROC, precision and recall, and PRO."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from blemish.datasets import evenly_spaced
from blemish.errors import require
from blemish.evaluation import Evaluation
from blemish.log import guarded
from blemish.maps import page_template
from blemish.metrics import RankCounts, precision_recall_curve, roc_curve
from blemish.metrics.ranking import Floats
from blemish.metrics.regions import AUPRO_LIMIT
from blemish.report.drawing import BOTTOM, HEIGHT, LEFT, TOP, WIDTH, Curves, draw_curves
from blemish.report.figures import Named, make_table
from blemish.report.table import printable
from blemish.storage import new_folder

FOLDER = "curves"
"""The kind of a folder of curves."""

FIGURES = "figures.csv"

POINTS = 10_000
"""Points of one model's curve in a file, at most; more are thinned evenly."""

Points = tuple[Floats, Floats]


@dataclass(frozen=True)
class Kind:
    """One kind of curve.

    Attributes:
        title: of the drawing.
        below, beside: names of the axes.
        points: returns the points of an evaluation's curve; `None` if it is undefined.
        limit: the end of the horizontal axis.
    """

    title: str
    below: str
    beside: str
    points: Callable[[Evaluation], Points | None]
    limit: float = 1.0


def _of_images(curve: Callable[[RankCounts], Points]) -> Callable[[Evaluation], Points | None]:
    return lambda found: curve(found.counts) if found.counts.is_ranking else None


def _of_pixels(curve: Callable[[RankCounts], Points]) -> Callable[[Evaluation], Points | None]:
    def points(found: Evaluation) -> Points | None:
        counts = found.pixels.pixels()
        return curve(counts) if counts.is_ranking else None

    return points


RATE, RECALL = "false-alarm rate", "detection rate"
KINDS = {
    "image_roc": Kind("ROC of images", RATE, RECALL, _of_images(roc_curve)),
    "image_pr": Kind("precision and recall of images", "recall", "precision", _of_images(precision_recall_curve)),
    "pixel_roc": Kind("ROC of pixels", "false positive rate", "true positive rate", _of_pixels(roc_curve)),
    "pixel_pr": Kind("precision and recall of pixels", "recall", "precision", _of_pixels(precision_recall_curve)),
    "pro": Kind(
        "PRO of regions",
        "false positive rate of pixels",
        "mean overlap of regions",
        lambda found: found.pixels.overlap_curve(),
        AUPRO_LIMIT,
    ),
}
"""Kinds of curves, by the names of their files."""


def draw_all(named: Sequence[Named]) -> dict[str, Curves]:
    """Returns one drawing for each kind of curve, with all evaluations that have it."""
    found = {
        name: draw_curves(
            kind.title,
            kind.below,
            kind.beside,
            [(model, kind.points(evaluation)) for model, evaluation in named],
            kind.limit,
        )
        for name, kind in KINDS.items()
    }
    return {name: curves for name, curves in found.items() if curves is not None}


def write_curves(named: Sequence[Named], folder: Path, *, force: bool = False) -> list[str]:
    """Writes each kind of curve as CSV and SVG, and all figures as CSV; returns the names of the files.

    A line of CSV is one point: the model's name, and the values on both axes.

    Args:
        named: names of models and their evaluations.
        folder: new, or with `force` one that this function wrote.
        force: replace what is there.

    Raises:
        MissingExtraError: jinja2 is not installed.
        StorageError: the folder exists and may not be replaced, or cannot be written.
    """
    require("jinja2", of="drawing curves", extra="report")
    size = (WIDTH, HEIGHT, LEFT, BOTTOM, TOP)
    template = page_template("blemish.report", "curves.svg")
    with new_folder(folder, FOLDER, force=force) as draft:
        for name, drawn in draw_all(named).items():
            picture = template.render(size=size, drawn=drawn).strip() + "\n"
            (draft / f"{name}.svg").write_text(printable(picture), encoding="utf-8")
            (draft / f"{name}.csv").write_text(printable(_written(KINDS[name], named)), encoding="utf-8")
        (draft / FIGURES).write_text(make_table(named, exact=True).written("csv"), encoding="utf-8")
        return sorted(file.name for file in draft.iterdir())


def _written(kind: Kind, named: Sequence[Named]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("model", kind.below, kind.beside))
    for name, evaluation in named:
        found = kind.points(evaluation)
        if found is not None:
            across, upward = (column.tolist() for column in found)
            writer.writerows((guarded(name), across[at], upward[at]) for at in evenly_spaced(len(across), POINTS))
    return text.getvalue()
