"""One self-contained HTML page of an evaluation: figures, score histogram, ROC, and the images that matter most."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from blemish.datasets import Sample
from blemish.errors import MissingExtraError
from blemish.evaluation import Evaluation
from blemish.images import Pixels, read_image
from blemish.metrics import roc_curve
from blemish.model import Model, Prediction
from blemish.report.overlays import overlay
from blemish.storage import new_file

GALLERY = 12
"""Images at most in each gallery."""

Result = tuple[Sample, Prediction]


@dataclass(frozen=True)
class Tile:
    """One image of a gallery; pictures are data URIs."""

    name: str
    kind: str
    score: float
    p_value: float
    image: str
    heat: str


def write_report(model: Model, evaluation: Evaluation, path: Path) -> None:
    """Writes the page, whole or not at all; nothing in it is loaded from elsewhere.

    Raises:
        MissingExtraError: matplotlib or jinja2 is not installed.
        ModelError: the path cannot be written.
    """
    try:
        import jinja2
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(f"a report needs {error.name}; pip install 'blemish[report]'") from None
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters["percent"] = lambda figure: "–" if figure is None else f"{100 * figure:.2f}"
    template = environment.from_string(resources.files(__package__).joinpath("page.html").read_text("utf-8"))
    page = template.render(
        model=model,
        evaluation=evaluation,
        detections=_count(evaluation.decisions["detection_rate"], evaluation.image["anomalous"]),
        false_alarms=_count(evaluation.decisions["false_alarm_rate"], evaluation.image["normal"]),
        histogram=_histogram(evaluation),
        roc=_roc(evaluation),
        galleries=[
            (title, explanation, _tiles(model, chosen))
            for title, explanation, chosen in _galleries(evaluation)
            if chosen
        ],
        scale=_uri(_scale(), "PNG"),
    )
    with new_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _count(rate: float | None, total: float | None) -> int | None:
    return None if rate is None or total is None else round(rate * total)


def _galleries(evaluation: Evaluation) -> list[tuple[str, str, list[Result]]]:
    """The highest scores, and each kind of mistake, worst first."""
    by_score = sorted(evaluation.results, key=lambda result: -result[1].score)
    alarms = [result for result in by_score if result[1].is_anomaly and not result[0].is_anomalous]
    misses = [result for result in reversed(by_score) if not result[1].is_anomaly and result[0].is_anomalous]
    return [
        ("Highest scores", "The images that fit the good ones least.", by_score[:GALLERY]),
        ("False alarms", "Good images above the threshold, the highest score first.", alarms[:GALLERY]),
        ("Missed", "Anomalous images at or below the threshold, the lowest score first.", misses[:GALLERY]),
    ]


def _tiles(model: Model, results: Sequence[Result]) -> list[Tile]:
    """The images again, with their maps: only these few are kept in memory."""
    tiles = []
    for (sample, _), prediction in zip(results, model.predict([sample.path for sample, _ in results]), strict=True):
        if prediction.map is None:
            continue  # it could be read a moment ago, and no longer
        image = read_image(sample.path, model.recipe.geometry)
        heat = overlay(image, prediction.map, model.calibration.display)
        tiles.append(Tile(sample.path.name, sample.kind, prediction.score, prediction.p_value, _uri(image), _uri(heat)))
    return tiles


def _uri(pixels: Pixels, kind: str = "JPEG") -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **({"quality": 85} if kind == "JPEG" else {}))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _scale() -> Pixels:
    """The colour scale, from bottom to top."""
    from blemish.report.overlays import heat_map

    return heat_map(np.linspace(0, 1, 256, dtype=np.float32)[None].repeat(8, 0), (0.0, 1.0))


def _histogram(evaluation: Evaluation) -> str:
    scores = np.array([prediction.score for _, prediction in evaluation.results])
    anomalous = np.array([sample.is_anomalous for sample, _ in evaluation.results])
    threshold = float(evaluation.decisions["threshold"] or 0.0)
    figure, axes = _figure()
    edges = np.histogram_bin_edges(scores, bins=40)
    for label, chosen, colour in (("good", ~anomalous, "#2a6fb0"), ("anomalous", anomalous, "#c8451b")):
        if chosen.any():
            axes.hist(scores[chosen], bins=edges, alpha=0.65, label=f"{label} ({chosen.sum()})", color=colour)
    axes.axvline(threshold, color="#222", linestyle="--", linewidth=1.2, label=f"threshold {threshold:.4g}")
    axes.set_xlabel("score")
    axes.set_ylabel("images")
    axes.legend(frameon=False)
    return _svg(figure)


def _roc(evaluation: Evaluation) -> str | None:
    counts = evaluation.counts
    if not counts.is_ranking:
        return None
    false, true = roc_curve(counts)
    figure, axes = _figure()
    axes.plot(false, true, color="#2a6fb0", linewidth=1.8)
    axes.plot([0, 1], [0, 1], color="#bbb", linewidth=0.8)
    axes.plot(
        evaluation.decisions["false_alarm_rate"],
        evaluation.decisions["detection_rate"],
        "o",
        color="#c8451b",
        label="at the threshold",
    )
    axes.set_xlabel("false-alarm rate")
    axes.set_ylabel("detection rate")
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.01)
    axes.legend(frameon=False, loc="lower right")
    return _svg(figure)


def _figure() -> tuple[Any, Any]:
    """A figure of its own, outside pyplot's global state."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _svg(figure: Any) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
