"""Prints an evaluation: tables of images and of pixels, intervals, decisions at the threshold, and boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from blemish.cli.console import calibration_line, escape, out, threshold_line
from blemish.errors import number_of

if TYPE_CHECKING:
    from blemish.calibration import Calibration
    from blemish.evaluation import Difference, Evaluation
    from blemish.model import Model

IMAGES = {"auroc": "AUROC", "aupr": "AUPR", "f1_max": "best F1"}
PIXELS = {
    "auroc": "pixel AUROC",
    "auroc_per_image": "by image",
    "aupr": "AUPR",
    "f1_max": "best F1",
    "aupro": "AUPRO",
    "aupimo": "AUPIMO",
}
"""Columns of the two tables, and what stands above them."""

MEAN = "mean of classes"


def print_evaluation(model: Model, evaluation: Evaluation) -> None:
    _print_images(evaluation)
    if evaluation.dataset.has_masks:
        _print_pixels(evaluation)
        if evaluation.pixel["aupimo"] is None:
            out.print(
                "(AUPIMO needs more good images: these have too few pixels to measure a rate of 1 in 100,000; see "
                "docs/metrics.md)"
            )
    _print_intervals(evaluation)
    _print_decisions(model.calibration, evaluation)
    _print_boxes(evaluation.boxes)
    out.print(f"{1000 * evaluation.seconds_per_image:.1f} ms an image, decoding included")


def print_comparison(named: Sequence[tuple[str, Evaluation]], differences: Sequence[Sequence[Difference]]) -> None:
    """Prints the figures of several models, one column each, and how the first model differs from the others."""
    from blemish.evaluation.per_image import FIGURES
    from blemish.report.figures import make_table

    made = make_table(named)
    table = Table(box=None, pad_edge=False)
    columns = zip(made.header, *made.rows, strict=True)  # one for each model, since there are many figures
    _, *heads = next(columns)
    table.add_column("per cent")
    for head in heads:
        table.add_column(escape(head), justify="right", overflow="fold")
    for row in columns:
        table.add_row(*map(escape, row))
    out.print(table)
    first = escape(named[0][0])
    for (other, _), found in zip(named[1:], differences, strict=True):
        out.print(f"{first} minus {escape(other)}, in percentage points, with 95 % intervals:")
        for each in found:
            told = "" if each.interval is None else f", {_points(each.interval.low)} to {_points(each.interval.high)}"
            out.print(f"  {FIGURES[each.figure]}: {_points(each.difference)}{told}; {each.verdict}")


def _points(difference: float) -> str:
    return f"{100 * difference:+.2f}"


def _print_images(evaluation: Evaluation) -> None:
    table = _table(evaluation, "images", *IMAGES.values(), "detected")

    def row(name: str, count: int, image: dict[str, Any], detected: float | None) -> None:
        table.add_row(escape(name), str(count), *(_figure(image[kind]) for kind in IMAGES), _figure(detected))

    row("all", len(evaluation.results), evaluation.image, evaluation.decisions["detection_rate"])
    for kind, figures in evaluation.per_class.items():
        row(kind, figures["count"], figures["image"], figures["detection_rate"])
    if len(evaluation.per_class) > 1:
        table.add_row(MEAN, "", _figure(evaluation.class_means["image_auroc"]))
    out.print(table)


def _print_pixels(evaluation: Evaluation) -> None:
    table = _table(evaluation, *PIXELS.values())
    pixel = {"all": evaluation.pixel, **{kind: figures["pixel"] for kind, figures in evaluation.per_class.items()}}
    for name, figures in pixel.items():
        table.add_row(escape(name), *(_figure(figures[kind]) for kind in PIXELS))
    if len(evaluation.per_class) > 1:
        means = {"auroc": evaluation.class_means["pixel_auroc"], "aupro": evaluation.class_means["aupro"]}
        table.add_row(MEAN, *(_figure(means[kind]) if kind in means else "" for kind in PIXELS))
    out.print(table)


def _print_intervals(evaluation: Evaluation) -> None:
    from blemish.evaluation.per_image import FIGURES

    for name, found in evaluation.intervals.items():
        if found is not None:
            out.print(f"{FIGURES[name]}: {_figure(found.low)} to {_figure(found.high)} (95 % interval)")


def _print_decisions(calibration: Calibration, evaluation: Evaluation) -> None:
    decisions = evaluation.decisions
    out.print(calibration_line(calibration))
    out.print(threshold_line(calibration))
    out.print(
        f"false alarms {_percent(decisions['false_alarm_rate'])}, detected {_percent(decisions['detection_rate'])}"
    )
    if decisions["false_alarms_by_chance"]:
        low, high = decisions["false_alarms_by_chance"]
        normal = int(evaluation.image["normal"] or 0)
        out.print(
            f"(on {number_of(normal, 'good image')} the stated rate gives {low} to {high} false alarms by chance)"
        )
    if evaluation.rates:
        table = Table(box=None, pad_edge=False)
        for column in ("stated rate", "threshold", "false alarms", "detected"):
            table.add_column(column, justify="right")
        for at in evaluation.rates:
            realised = (_percent(at["false_alarm_rate"]), _percent(at["detection_rate"]))
            table.add_row(f"{100 * at['rate']:g} %", f"{at['threshold']:.6g}", *realised)
        out.print(table)


def _print_boxes(boxes: dict[str, Any]) -> None:
    if not boxes:
        return
    shown = _percent(boxes["good_with_boxes"])
    out.print(f"boxes on {shown} of good images")
    for at in boxes["overlaps"]:
        out.print(
            f"{at['matched']} of {boxes['true']} marked defects matched by {boxes['found']} boxes (IoU ≥ {at['iou']}): "
            f"precision {_percent(at['precision'])}, recall {_percent(at['recall'])}, F1 {_percent(at['f1'])}; "
            f"{at['false_per_image']:.2f} false boxes an image"
        )


def _table(evaluation: Evaluation, *columns: str) -> Table:
    """Returns an empty table whose first column holds the names of classes."""
    table = Table(box=None, pad_edge=False)
    table.add_column("", min_width=max(map(len, [MEAN, *evaluation.per_class])))
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _figure(figure: float | None) -> str:
    return "–" if figure is None else f"{100 * figure:.2f}"


def _percent(rate: float | None) -> str:
    return "undefined" if rate is None else f"{100 * rate:.2f} %"
