"""Writes evaluations of one or several models as an HTML page: figures, a movable threshold, curves, and all images.

Figures and curves can be read without the page's script. The script moves the threshold, and shows, searches, sorts and
enlarges the images. Pictures are in the page if they are small in total, or else in a folder beside it.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from PIL import Image

from blemish.errors import SettingError, StorageError, require
from blemish.evaluation import Difference, Evaluation, compared
from blemish.evaluation.per_image import FIGURES
from blemish.maps import heat_map, page_template
from blemish.model import Model
from blemish.progress import Progress
from blemish.report.curves import draw_all
from blemish.report.drawing import (
    BOTTOM,
    HEIGHT,
    LEFT,
    TOP,
    UNIT,
    WIDTH,
    Axis,
    Histogram,
    p_value_histogram,
    score_axis,
    score_histogram,
)
from blemish.report.figures import make_table, names_of
from blemish.report.pictures import draw_pictures, heat_area
from blemish.report.table import printable
from blemish.storage import Scratch, check_free, check_free_file, new_file, new_folder, remove_folder, signed

PICTURES = ("auto", "embed", "beside")

EMBEDDED = 16 << 20
"""Bytes of all pictures together, at most, for which `auto` keeps them in the page."""

FOLDER = "pictures"
"""The kind of the folder beside a page."""

CALIBRATING = 500
"""Listed images that calibrated a model, at most."""

Judged = tuple[Model, Evaluation]


@dataclass(frozen=True)
class View:
    """One model on the page.

    Attributes:
        name: different for each model of the page.
        model, evaluation: what is shown.
        axis: of the scores.
        scores, p_values: histograms; there are no p-values without good images.
        calibrating: the scores that calibrated the model, as coordinates on the axis.
        detections, false_alarms: counts at the threshold; `None` without such images.
        known: images of the evaluation that the model was fitted on.
        good, anomalous: scores, ascending.
    """

    name: str
    model: Model
    evaluation: Evaluation
    axis: Axis
    scores: Histogram
    p_values: Histogram | None
    calibrating: list[float]
    detections: int | None
    false_alarms: int | None
    known: int
    good: list[float]
    anomalous: list[float]

    @property
    def calibrated_by(self) -> list[tuple[str, float]]:
        """Names and scores of the images that calibrated the model, highest score first, at most `CALIBRATING`."""
        calibration = self.model.calibration
        pairs = zip(reversed(calibration.names), calibration.scores[::-1].tolist(), strict=True)
        return [pair for _, pair in zip(range(CALIBRATING), pairs, strict=False)]

    def as_dict(self) -> dict[str, Any]:
        """Returns what the page's script needs."""
        axis = self.axis
        ends = {"low": axis.low, "high": axis.high, "start": axis.start, "end": axis.end, "log": axis.logarithmic}
        return {
            "name": self.name,
            "threshold": self.model.threshold,
            "axis": ends,
            "good": self.good,
            "anomalous": self.anomalous,
            "area": heat_area(self.model.recipe.geometry),
        }


def write_report(
    model: Model,
    evaluation: Evaluation,
    path: Path,
    *,
    others: Sequence[Judged] = (),
    pictures: str = "auto",
    force: bool = False,
    progress: Progress | None = None,
) -> None:
    """Writes the page, and a folder with its pictures if it needs one; whole or not at all.

    The page loads nothing from elsewhere. The folder has the page's name, with `_files` instead of its ending.

    Args:
        model, evaluation: what is shown.
        path: of the page.
        others: models and their evaluations on the same images, shown side by side with the first.
        pictures: `embed` keeps them in the page, `beside` in the folder, and `auto` in the page if they have up to 16
            MiB together.
        force: replace what is there, if blemish wrote it.
        progress: called with the stage, and how many images of how many are done.

    Raises:
        MissingExtraError: jinja2 is not installed.
        SettingError: `pictures` is none of these, or the images of the evaluations differ.
        StorageError: the path exists and may not be replaced, or cannot be written.
    """
    require("jinja2", of="a report", extra="report")
    check_page(path, pictures, force=force)
    judged = [(model, evaluation), *others]
    differences = _differences([found for _, found in judged])
    views = [_view(name, *pair) for name, pair in zip(names_of([found for _, found in judged]), judged, strict=True)]
    folder = folder_of(path)
    with new_file(path, force=force) as temporary, Scratch(path.parent) as scratch:
        drawn = scratch.path / "drawn"
        drawn.mkdir()
        images = draw_pictures(judged, drawn, progress)
        files = sorted(drawn.iterdir())
        embedded = pictures == "embed" or (
            pictures == "auto" and sum(file.stat().st_size for file in files) <= EMBEDDED
        )
        kept = {file.name: base64.b64encode(file.read_bytes()).decode() for file in files} if embedded else {}
        where = None if embedded else f"{quote(os.fsencode(folder.name))}/"
        page = _rendered(views, differences, images, kept, where)
        temporary.write_text(signed(page), encoding="utf-8", newline="\n")
        if not embedded:
            with new_folder(folder, FOLDER, force=force) as draft:
                for file in files:
                    file.rename(draft / file.name)
    if embedded and force and os.path.lexists(folder):  # of a page before
        with contextlib.suppress(StorageError):
            remove_folder(folder, FOLDER)


def check_page(path: Path, pictures: str = "auto", *, force: bool = False) -> None:
    """Raises the errors of `write_report` for these arguments, before any work."""
    if pictures not in PICTURES:
        raise SettingError(f"pictures {pictures!r} is not known; give one of {', '.join(PICTURES)}")
    check_free_file(path, force=force)
    if pictures != "embed":
        check_free(folder_of(path), FOLDER, force=force)


def folder_of(path: Path) -> Path:
    """Returns the folder for a page's pictures."""
    return path.with_name(f"{path.stem}_files")


def _differences(evaluations: Sequence[Evaluation]) -> list[list[Difference]]:
    """Returns the differences between the first evaluation and each other one."""
    first, *others = evaluations
    for other in others:
        if other.per_image.names != first.per_image.names:
            raise SettingError(
                f"the {len(first.results)} and the {len(other.results)} images are not the same; evaluate all models "
                "on one data set in which every image can be read"
            )
    return [compared(first, other) for other in others]


def _view(name: str, model: Model, evaluation: Evaluation) -> View:
    good, anomalous = (
        np.sort([p.score for sample, p in evaluation.results if sample.is_anomalous == wanted])
        for wanted in (False, True)
    )
    axis = score_axis(np.concatenate([good, anomalous, [model.threshold]]))
    return View(
        name=name,
        model=model,
        evaluation=evaluation,
        axis=axis,
        scores=score_histogram(axis, good, anomalous),
        p_values=p_value_histogram([p.p_value for sample, p in evaluation.results if not sample.is_anomalous]),
        calibrating=[axis.place(s) for s in model.calibration.scores.tolist() if axis.low <= s <= axis.high],
        detections=_count(evaluation.decisions["detection_rate"], evaluation.image["anomalous"]),
        false_alarms=_count(evaluation.decisions["false_alarm_rate"], evaluation.image["normal"]),
        known=sum(prediction.is_known for _, prediction in evaluation.results),
        good=good.tolist(),
        anomalous=anomalous.tolist(),
    )


def _rendered(
    views: list[View],
    differences: list[list[Difference]],
    images: list[dict[str, Any]],
    kept: dict[str, str],
    folder: str | None,
) -> str:
    percent = {"percent": lambda figure: "–" if figure is None else f"{100 * figure:.2f}"}
    first = views[0].evaluation
    data = {"models": [view.as_dict() for view in views], "images": images, "unit": UNIT, "folder": folder}
    page = page_template("blemish.report", "page.html", percent).render(
        views=views,
        dataset=first.dataset,
        kinds=sorted({printable(sample.kind) for sample, _ in first.results}),
        count=len(images),
        unreadable=first.unreadable,
        figures=make_table([(view.name, view.evaluation) for view in views]),
        differences=differences,
        figure_names=FIGURES,
        curves=draw_all([(view.name, view.evaluation) for view in views]),
        size=(WIDTH, HEIGHT, LEFT, BOTTOM, TOP),
        scale=_scale(),
        data=_script(data),
        pictures=_script(kept),
    )
    return printable(page)


def _script(content: Any) -> str:
    """Returns JSON that is safe inside a script element."""
    return json.dumps(content, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _count(rate: float | None, total: float | None) -> int | None:
    return None if rate is None or total is None else round(rate * total)


def _scale() -> str:
    """Returns the colours of heat maps from left to right, as a data URI."""
    colours = heat_map(np.linspace(0, 1, 256, dtype=np.float32)[None].repeat(8, 0), (0.0, 1.0))
    buffer = io.BytesIO()
    Image.fromarray(colours).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
