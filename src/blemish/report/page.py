"""Writes an evaluation as one self-contained HTML page: figures, a threshold to move, curves, and important images.

The page can be read without its script, since the curves are drawn here. The script moves the threshold, sorts and
blends.
"""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from blemish.datasets import Sample, evenly_spaced
from blemish.errors import require
from blemish.evaluation import Evaluation
from blemish.images import Pixels
from blemish.maps import heat_map, in_view, outlined, page_template, view
from blemish.metrics import roc_curve
from blemish.metrics.ranking import Floats
from blemish.model import Model, Prediction
from blemish.storage import new_file, signed

GALLERY = 12
"""Images of each sort in the gallery, at most: the highest scores, false alarms, missed ones, and some in between."""

LONGEST = 512
"""Pixels on the longer side of a photograph that is cut into tiles, as it is shown."""

BINS, P_BINS = 40, 10
WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 560, 300, 48, 40, 12
"""Size of a drawing and its margins, in pixels."""

POINTS = 400
"""Points of a curve, at most."""

Result = tuple[Sample, Prediction]


@dataclass(frozen=True)
class Shown:
    """One image of the gallery; pictures are data URIs."""

    name: str
    kind: str
    is_anomalous: bool
    score: float
    p_value: float
    is_known: bool
    image: str
    heat: str


@dataclass(frozen=True)
class Axis:
    """Maps values to places along one side of a drawing, linear or logarithmic."""

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

    def ticks(self) -> list[tuple[float, str]]:
        """Returns places and labels of about five round values."""
        if self.logarithmic:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            values = [digit * 10.0**decade for decade in decades for digit in (1, 2, 5)]
        else:
            rough = (self.high - self.low) / 5
            step = min((d * 10.0 ** math.floor(math.log10(rough)) for d in (1, 2, 5, 10)), key=lambda s: abs(s - rough))
            values = [step * number for number in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]
        return [(self.place(value), f"{value:.6g}") for value in values if self.low <= value <= self.high]


def write_report(model: Model, evaluation: Evaluation, path: Path, *, force: bool = False) -> None:
    """Writes the page, whole or not at all; nothing in it is loaded from elsewhere.

    Raises:
        MissingExtraError: jinja2 is not installed.
        StorageError: the path exists and may not be replaced, or cannot be written.
    """
    require("jinja2", of="a report", extra="report")
    percent = {"percent": lambda figure: "–" if figure is None else f"{100 * figure:.2f}"}
    template = page_template("blemish.report", "page.html", percent)
    good, anomalous = (
        np.array([p.score for sample, p in evaluation.results if sample.is_anomalous == wanted])
        for wanted in (False, True)
    )
    scores = np.concatenate([good, anomalous, [model.threshold]])
    low, high = float(scores.min()), float(scores.max())
    if low == high:
        low, high = low - 0.5, high + 0.5
    axis = Axis(low, high, LEFT, WIDTH - TOP, logarithmic=low > 0 and high / low > 10)
    page = template.render(
        model=model,
        evaluation=evaluation,
        detections=_count(evaluation.decisions["detection_rate"], evaluation.image["anomalous"]),
        false_alarms=_count(evaluation.decisions["false_alarm_rate"], evaluation.image["normal"]),
        size=(WIDTH, HEIGHT, LEFT, BOTTOM, TOP),
        axis=axis,
        histogram=_histogram(axis, good, anomalous),
        calibrating=[axis.place(score) for score in model.calibration.scores.tolist() if low <= score <= high],
        p_values=_p_values(evaluation),
        known=sum(prediction.is_known for _, prediction in evaluation.results),
        roc=_curve(roc_curve(evaluation.counts), 1.0) if evaluation.counts.is_ranking else None,
        overlap=_overlap(evaluation),
        tiles=_tiles(model, _gallery(evaluation)),
        scale=_uri(heat_map(np.linspace(0, 1, 256, dtype=np.float32)[None].repeat(8, 0), (0.0, 1.0)), "PNG"),
        data=json.dumps(
            {
                "good": np.sort(good).tolist(),
                "anomalous": np.sort(anomalous).tolist(),
                "threshold": model.threshold,
                "axis": {"low": low, "high": high, "start": LEFT, "end": axis.end, "log": axis.logarithmic},
                "unit": _UNIT,
            }
        ).replace("<", "\\u003c"),
    )
    with new_file(path, force=force) as temporary:
        temporary.write_text(signed(page), encoding="utf-8", newline="\n")


def _count(rate: float | None, total: float | None) -> int | None:
    return None if rate is None or total is None else round(rate * total)


def _gallery(evaluation: Evaluation) -> list[Result]:
    """Returns results to show, the highest score first: highest scores, each kind of mistake, and some in between."""
    by_score = sorted(evaluation.results, key=lambda result: -result[1].score)
    alarms = [result for result in by_score if result[1].is_anomaly and not result[0].is_anomalous]
    misses = [result for result in reversed(by_score) if not result[1].is_anomaly and result[0].is_anomalous]
    between = [by_score[place] for place in evenly_spaced(len(by_score), GALLERY)]
    wanted = {
        id(result) for sort in (by_score[:GALLERY], alarms[:GALLERY], misses[:GALLERY], between) for result in sort
    }
    return [result for result in by_score if id(result) in wanted]


def _tiles(model: Model, results: Sequence[Result]) -> list[Shown]:
    """Returns pictures of these images and their maps, which are computed again, so that few are in memory."""
    tiles = []
    for (sample, _), prediction in zip(
        results, model.predict([sample.path for sample, _ in results], errors="keep"), strict=True
    ):
        if prediction.map is None:
            continue  # it could be read before
        pixels, values = view(sample.path, prediction.map, model.recipe.geometry, LONGEST)
        boxes = in_view(model.boxes(prediction.map), prediction.map.shape, pixels.shape)
        colours = heat_map(values, model.calibration.display)
        image, heat = (_uri(outlined(picture, boxes)) for picture in (pixels, colours))
        names = (sample.path.name, sample.kind, sample.is_anomalous)
        tiles.append(Shown(*names, prediction.score, prediction.p_value, prediction.is_known, image, heat))
    return tiles


def _uri(pixels: Pixels, kind: str = "JPEG") -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **({"quality": 85} if kind == "JPEG" else {}))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _histogram(axis: Axis, good: Floats, anomalous: Floats) -> dict[str, object]:
    """Returns bars (x, y, width, height) of each class, and the ticks of the counts."""
    spaced = np.geomspace if axis.logarithmic else np.linspace
    edges = spaced(axis.low, axis.high, BINS + 1)
    edges[0], edges[-1] = axis.low, axis.high  # exactly
    counts = {"good": np.histogram(good, edges)[0], "anomalous": np.histogram(anomalous, edges)[0]}
    most = max(int(count.max()) for count in counts.values())
    upward = Axis(0, max(most, 1), HEIGHT - BOTTOM, TOP)
    bars = {
        kind: [
            (
                axis.place(float(edges[bin])),
                upward.place(float(count)),
                round(axis.place(float(edges[bin + 1])) - axis.place(float(edges[bin])), 2),
                round(HEIGHT - BOTTOM - upward.place(float(count)), 2),
            )
            for bin, count in enumerate(found)
            if count
        ]
        for kind, found in counts.items()
    }
    return {"bars": bars, "ticks": [tick for tick in upward.ticks() if "." not in tick[1]]}


def _p_values(evaluation: Evaluation) -> dict[str, object] | None:
    """Returns bars (x, y, width, height) of the p-values of good images, their ticks, and the height of even ones."""
    found = [p.p_value for sample, p in evaluation.results if not sample.is_anomalous]
    if not found:
        return None
    counts, edges = np.histogram(found, P_BINS, (0.0, 1.0))
    across = Axis(0, 1, _UNIT["left"], _UNIT["right"])
    upward = Axis(0, int(counts.max()), _UNIT["bottom"], _UNIT["top"])
    bars = [
        (
            across.place(float(low)),
            upward.place(float(count)),
            round(across.place(float(high)) - across.place(float(low)), 2),
            round(_UNIT["bottom"] - upward.place(float(count)), 2),
        )
        for low, high, count in zip(edges, edges[1:], counts, strict=False)
    ]
    ticks = [tick for tick in upward.ticks() if "." not in tick[1]]
    return {"bars": bars, "across": across.ticks(), "upward": ticks, "even": upward.place(len(found) / P_BINS)}


_UNIT = {"left": LEFT, "right": WIDTH - TOP, "top": TOP, "bottom": HEIGHT - BOTTOM}
"""Where a curve between 0 and 1 is drawn."""


def _curve(points: tuple[Floats, Floats], limit: float) -> dict[str, object]:
    """Returns a curve's points for SVG, and the ticks of both sides; heights go up to 1, widths up to `limit`."""
    across = Axis(0, limit, _UNIT["left"], _UNIT["right"])
    upward = Axis(0, 1, _UNIT["bottom"], _UNIT["top"])
    places = evenly_spaced(len(points[0]), POINTS)
    drawn = " ".join(f"{across.place(float(points[0][i]))},{upward.place(float(points[1][i]))}" for i in places)
    return {"points": drawn, "across": across.ticks(), "upward": upward.ticks()}


def _overlap(evaluation: Evaluation) -> dict[str, object] | None:
    points = evaluation.pixels.overlap_curve()
    return None if points is None else _curve(points, float(points[0][-1]))
