"""What the command prints: progress bars, lines for people, JSON for machines."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich import markup
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table

from blemish.errors import number_of

if TYPE_CHECKING:
    from blemish.calibration import Calibration
    from blemish.components import Diagnosis, Pruning
    from blemish.explanation import Explanation
    from blemish.model import Model, Prediction
    from blemish.progress import Progress

NAMED = 5
"""Images that one line names, at most."""


class Piped(Console):
    """A console that raises `BrokenPipeError` where rich would end the process, for `ignore_closed_output`."""

    def on_broken_pipe(self) -> None:
        raise  # called where the error is handled


@dataclass
class Loudness:
    """What is printed besides results.

    Attributes:
        quiet: only warnings and errors.
        verbose: also what the library logs.
        debug: also the traceback of an error.
    """

    quiet: bool = False
    verbose: bool = False
    debug: bool = False

    def reset(self) -> None:
        self.quiet = self.verbose = self.debug = False


class Notes(Piped):
    """Prints notes to the error stream, unless the command is to be quiet."""

    def print(self, *objects: Any, **options: Any) -> None:
        if not loudness.quiet:
            super().print(*objects, **options)


loudness = Loudness()
out = Piped(highlight=False, soft_wrap=True, emoji=False)
err = Notes(stderr=True, highlight=False, soft_wrap=True, emoji=False)

_FORGING = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that end a line, move the cursor, colour or reorder text; and bytes of a name that are not text."""


def escape(text: str) -> str:
    """Returns text that prints as one line without markup, so that no name can pass for something else.

    Control characters and bytes that are not text are spelt as in Python: `\\n`, `\\x1b`, `\\udce9`.
    """
    return markup.escape(_FORGING.sub(lambda found: found[0].encode("unicode_escape").decode(), text))


def problem(line: str) -> None:
    """Prints an error or a warning to the error stream, also if the command is to be quiet."""
    Piped.print(err, line)


@contextmanager
def bars() -> Iterator[Progress]:
    """Yields a function that shows a bar for each stage, on the error stream if that is a terminal."""
    columns = (TextColumn("{task.description:>10}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bars(*columns, console=err, transient=True, disable=loudness.quiet or not err.is_terminal) as shown:
        tasks: dict[str, TaskID] = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = shown.add_task(stage, total=total)
            shown.update(tasks[stage], completed=done, total=total)  # training may end early

        yield show


@contextmanager
def ignore_closed_output() -> Iterator[None]:
    """Continues without printing once the reader of the output has ended, such as `head`, so that no work is lost."""
    try:
        yield
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_json(content: dict[str, Any]) -> None:
    print(json.dumps(content, allow_nan=False), flush=True)


def described(model: Model) -> dict[str, Any]:
    """Returns what `fit --json` prints about a model."""
    calibration, changes = model.calibration, model.provenance.changes
    return {
        "detector": model.recipe.detector,
        "backbone": model.recipe.backbone,
        "weights": model.provenance.weights,
        "layers": list(model.recipe.layers),
        "input": list(model.recipe.geometry.shape),
        "images": model.provenance.images,
        "copies": model.recipe.copies,
        "calibration": "cross" if calibration.folds else "hold-out" if len(changes) == 1 else "mixed",
        "folds": calibration.folds,
        "scores": len(calibration.scores),
        "skipped": model.provenance.skipped,
        "repeated": model.provenance.repeated,
        "suspicious": [{"image": name, "p_value": p_value} for name, p_value in calibration.suspicious],
        "trimmed": list(model.provenance.trimmed),
        "learned": model.provenance.learned,
        "threshold": model.threshold,
        "threshold_image": calibration.threshold_image,
        "false_alarm_rate": calibration.rate,
        "box_rate": calibration.box_rate,
        "box_level": calibration.box_level,
    }


def threshold_line(calibration: Calibration) -> str:
    """Returns a line with the threshold, the level of the boxes, and the rate that is stated for each."""

    def percent(rate: float) -> str:
        return f"{100 * rate:.{2 if rate < 0.1 else 3}g} %"

    rate = f"a false-alarm rate of at most {percent(calibration.rate)}"
    stated = f"for {rate}"
    if calibration.given_threshold is not None:
        stated = f"as given, with {rate}" if calibration.rate < 1 else "as given, below all scores of good images"
    boxes = f"{calibration.box_level:.6g}, on at most {percent(calibration.box_rate)} of good images"
    return f"threshold {calibration.threshold:.6g}, {stated}; boxes above {boxes}"


def calibration_line(calibration: Calibration) -> str:
    """Returns a line that says how many images set the threshold, and how they were scored."""
    count, folds, image = len(calibration.scores), calibration.folds, calibration.threshold_image
    own = f"; the threshold is the score of {escape(image)}" if image else ""
    if folds:
        others = f"a model that learned from the other {folds - 1} of {folds} folds"
        return f"all {number_of(count, 'image')} set the threshold, each scored by {others}{own}"
    return f"{number_of(count, 'image')} set the threshold, each scored before the model learned from it{own}"


def listed(names: Sequence[str], count: int | None = None) -> str:
    """Returns the first few of these names in a line, and how many more there are; `count` is their number if given."""
    more = (len(names) if count is None else count) - NAMED
    return escape(", ".join(names[:NAMED])) + (f" and {more} more" if more > 0 else "")


def looking_anomalous(count: int) -> str:
    """Returns `1 of the good images looks anomalous itself`, and the like."""
    return f"{count} of the good images " + ("looks anomalous itself" if count == 1 else "look anomalous themselves")


def print_model(model: Model, output: str) -> None:
    from blemish.calibration import DEFAULT_RATE
    from blemish.detectors import Trained

    told = described(model)
    out.print(f"{told['detector']} on {model.recipe.backbone_and_layers}")
    if told["weights"].startswith(("file", "timm hub")):
        out.print(f"weights: {escape(told['weights'])}")
    copies = f" and {number_of(told['copies'], 'shifted copy', 'shifted copies')} of each" if told["copies"] else ""
    skipped = f", {told['skipped']} unreadable left out" if told["skipped"] else ""
    tile = model.recipe.geometry.tile
    tiles = "" if tile is None else f" in tiles of {tile} pixels"
    shape = "x".join(map(str, told["input"]))
    out.print(f"fitted on {number_of(told['images'], 'good image')}{tiles}{copies}, at {shape} pixels{skipped}")
    asked = model.provenance.learned.get("variance_asked", 0)
    for layer, kept in zip(told["layers"], model.provenance.learned.get("variance_kept", []), strict=False):
        if kept < asked - 5e-4:
            out.print(
                f"[yellow]layer {escape(str(layer))} keeps {kept:.3f} of its variance, not the {asked:g} asked "
                "for:[/yellow] memory was too small for more of its rows; give a coarser layer or a smaller --size"
            )
    out.print(calibration_line(model.calibration))
    out.print(threshold_line(model.calibration))
    if model.provenance.asked_false_alarm_rate is None and told["false_alarm_rate"] > DEFAULT_RATE:
        out.print(
            f"({100 * DEFAULT_RATE:g} %, the default, needs {round(1 / DEFAULT_RATE) - 1} images to calibrate on)"
        )
    if told["repeated"]:
        out.print(f"{number_of(told['repeated'], 'image is a copy', 'images are copies')} of another; each counts once")
    if told["trimmed"]:
        left_out = number_of(len(told["trimmed"]), "image that looks anomalous was", "images that look anomalous were")
        out.print(f"{left_out} left out: {listed(told['trimmed'])}")
    learned = model.provenance.learned
    if learned.get("range_is_bounded"):
        out.print(
            f"[yellow]the prior's range stopped at its bound of {learned['longest_range']:g} pixels:[/yellow] "
            "allow a longer one with --set longest_range=PIXELS"
        )
    found = [f"{name} (p {p_value:.2g})" for name, p_value in model.calibration.suspicious]
    if found:
        trims = model.calibration.folds and not isinstance(model.learned.detector, Trained)
        trim = ", or leave them out with --trim" if trims else ""
        out.print(
            f"[yellow]{looking_anomalous(len(found))}:[/yellow] {listed(found)}; "
            f"look at them with `blemish check --deep --out FOLDER`{trim}"
        )
    out.print(f"saved to {escape(str(output))}")


def print_prediction(prediction: Prediction) -> None:
    """Prints one line for an image, on the error stream if it could not be read."""
    from blemish.maps import counted

    path = escape(str(prediction.path))
    if prediction.error is not None:
        problem(f"[red]error[/red]      {path}: {escape(prediction.error)}")
        return
    verdict = "[red]anomalous[/red]" if prediction.is_anomaly else "[green]good[/green]     "
    found = f"{counted(prediction.boxes):>8}"
    known = "  (the model was fitted on this image)" if prediction.is_known else ""
    out.print(f"{verdict}  score {prediction.score:<7.6g}  p {prediction.p_value:.4f}  {found}  {path}{known}")


def print_explanation(explanation: Explanation) -> None:
    from blemish.maps import counted

    word = "[red]anomalous[/red]" if explanation.score > explanation.threshold else "good"
    x, y = explanation.place
    of_tile = "" if explanation.tile is None else f" of the {explanation.part}"
    out.print(
        f"{escape(str(explanation.path))}  {word}  score {explanation.score:.6g}, threshold "
        f"{explanation.threshold:.6g}; {counted(explanation.boxes)}{of_tile}; "
        f"map largest at x {x}, y {y}"
    )
    for cause in [*explanation.layers, *explanation.components]:
        out.print("  " + escape(str(cause)))


def print_diagnoses(rows: list[Diagnosis]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("layer", "component", "eigenvalue", "99 %", "within 3σ", "border", "corner", "frontier", "AUROC"):
        table.add_column(column, justify="left" if column == "layer" else "right")
    for row in rows:
        table.add_row(
            escape(row.layer),
            "sum" if row.component < 0 else str(row.component),
            "" if row.eigenvalue is None else f"{row.eigenvalue:.3g}",
            f"{row.percentile_99:.3g}",
            "" if row.within_3 is None else f"{100 * row.within_3:.2f}",
            *(f"{value:.2f}" for value in (row.border, row.corner, row.frontier)),
            "–" if row.auroc is None else f"{100 * row.auroc:.2f}",
        )
    out.print(table)


def print_pruning(pruning: Pruning, output: str) -> None:
    for layer, dropped in zip(pruning.model.recipe.layers, pruning.dropped, strict=True):
        listed = f": {', '.join(map(str, dropped))}" if dropped else ""
        out.print(f"layer {escape(str(layer))}: {number_of(len(dropped), 'component')} left out{listed}")
    if pruning.before is not None and pruning.after is not None:
        table = Table(box=None, pad_edge=False)
        kinds = {"auroc": "pixel AUROC", "aupr": "pixel AUPR", "aupro": "AUPRO"}
        for column in ("", "image AUROC", *kinds.values()):
            table.add_column(column, justify="right" if column else "left")
        for name, found in (("before", pruning.before), ("after", pruning.after)):
            figures = [found.image["auroc"], *(found.pixel[kind] for kind in kinds)]
            table.add_row(name, *("–" if figure is None else f"{100 * figure:.2f}" for figure in figures))
        out.print(table)
    out.print(f"saved to {escape(str(output))}")
