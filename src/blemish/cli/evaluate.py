"""`blemish evaluate` and `blemish demo`: measure models on labelled images, and write pages, tables and curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blemish.cli.console import bars, err, escape, out, print_json, print_prediction, threshold_line
from blemish.cli.evaluation import print_comparison, print_evaluation
from blemish.cli.needs import needs
from blemish.cli.options import SOME_FAILED, BoxRate, DeviceName, EngineName, FalseAlarmRate, Force, Json, Threshold

if TYPE_CHECKING:
    from blemish.evaluation import Evaluation
    from blemish.model import Model


class Pictures(str, Enum):
    auto = "auto"
    embed = "embed"
    beside = "beside"


PicturesOption = Annotated[
    Pictures,
    typer.Option(help="Pictures of the report: embed (in the page), beside (in a folder), or auto (by their size)."),
]


@dataclass(frozen=True)
class Written:
    """Where the results of evaluations are written; `None` for what is not written.

    Attributes:
        report: the page.
        images: the figures of each image.
        table: the figures of each model.
        curves: the folder of the curves.
        pictures: where the pictures of the page are kept.
        force: whether existing files are replaced.
    """

    report: Path | None = None
    images: Path | None = None
    table: Path | None = None
    curves: Path | None = None
    pictures: Pictures = Pictures.auto
    force: bool = False

    def check(self) -> None:
        """Raises `StorageError` or `SettingError` now, rather than after all images are scored."""
        from blemish.storage import check_free, check_free_file

        if self.report is not None:
            from blemish.report.page import check_page

            check_page(self.report, self.pictures.value, force=self.force)
        if self.images is not None:
            check_free_file(self.images, force=self.force, has_mark=False)
        if self.table is not None:
            from blemish.report.figures import check_table

            check_table(self.table, force=self.force)
        if self.curves is not None:
            from blemish.report.curves import FOLDER

            check_free(self.curves, FOLDER, force=self.force)

    def write(self, judged: Sequence[tuple[Model, Evaluation]]) -> None:
        """Writes all of it."""
        if (self.report, self.images, self.table, self.curves) == (None, None, None, None):
            return
        from blemish.report import write_curves, write_image_figures, write_report, write_table
        from blemish.report.figures import names_of

        named = list(zip(names_of([found for _, found in judged]), (found for _, found in judged), strict=True))
        if self.images is not None:
            write_image_figures(named, self.images, force=self.force)
        if self.table is not None:
            write_table(named, self.table, force=self.force)
        if self.curves is not None:
            write_curves(named, self.curves, force=self.force)
        if self.report is not None:
            (model, evaluation), *others = judged
            with bars() as progress:
                write_report(
                    model,
                    evaluation,
                    self.report,
                    others=others,
                    pictures=self.pictures.value,
                    force=self.force,
                    progress=progress,
                )


def evaluate(
    models: Annotated[
        list[str], typer.Argument(help="Model folders that fit wrote; several are compared.", metavar="MODEL…")
    ],
    source: Annotated[str, typer.Argument(help="A tree with labels, or layout:PATH.")],
    report: Annotated[Path | None, typer.Option(help="Write a page with all images, FILE.html.")] = None,
    pictures: PicturesOption = Pictures.auto,
    images: Annotated[Path | None, typer.Option(help="Write the figures of each image, FILE.csv.")] = None,
    table: Annotated[Path | None, typer.Option(help="Write a table of the figures, FILE.csv, .tex or .md.")] = None,
    curves: Annotated[Path | None, typer.Option(help="Write curves as CSV and SVG into a new folder.")] = None,
    false_alarm_rate: FalseAlarmRate = None,
    threshold: Threshold = None,
    box_rate: BoxRate = None,
    engine: EngineName = "auto",
    device: DeviceName = "auto",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Evaluate one or several models on labelled images. Exit status 3 if some could not be read.

    Example: [bold]blemish evaluate cells.blemish bottle --report bottle.html[/bold]
    """
    import blemish
    from blemish.datasets import read_source
    from blemish.model import Model

    needs("evaluate", *models, source, report=report is not None or curves is not None)
    written = Written(report, images, table, curves, pictures, force)
    written.check()
    loaded = [
        Model.load(path, engine, device=device).at(
            false_alarm_rate=false_alarm_rate, threshold=threshold, box_rate=box_rate
        )
        for path in models
    ]
    dataset = read_source(source, loaded[0].recipe.seed)
    err.print(escape(str(dataset)))
    judged = []
    for path, model in zip(models, loaded, strict=True):
        with bars() as progress:
            evaluation = blemish.evaluate(model, dataset, progress)
        judged.append((model, replace(evaluation, origin=replace(evaluation.origin, path=path))))
    _finish(judged, written, as_json)


def demo(
    report: Annotated[Path, typer.Option(help="Where the page goes.")] = Path("report.html"),
    device: DeviceName = "auto",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Fit FRE on good monocrystalline solar cells at 5 % false alarms, evaluate on the rest, write a report.

    Example: [bold]blemish demo[/bold]
    """
    import blemish
    from blemish.datasets import read_source

    needs("demo", "elpv", fit=True, report=True)
    written = Written(report, force=force)
    written.check()
    dataset = read_source("elpv:mono")
    err.print(escape(str(dataset)))
    with bars() as progress:
        model = blemish.fit(dataset, detector="fre", false_alarm_rate=0.05, device=device, progress=progress)
        evaluation = blemish.evaluate(model, dataset, progress)
    _finish([(model, evaluation)], written, as_json)


def _finish(judged: Sequence[tuple[Model, Evaluation]], written: Written, as_json: bool) -> None:
    """Writes and prints the evaluations; ends with a status if images could not be read."""
    from blemish.evaluation import compared

    evaluations = [found for _, found in judged]
    differences = [compared(evaluations[0], other) for other in evaluations[1:]]
    written.write(judged)
    for prediction in evaluations[0].unreadable:
        print_prediction(prediction)
    if as_json and len(judged) == 1:
        print_json(evaluations[0].as_dict())
    elif as_json:
        told = [[each.as_dict() for each in found] for found in differences]
        print_json({"evaluations": [found.as_dict() for found in evaluations], "differences": told})
    else:
        _print(judged, written)
    if evaluations[0].unreadable:
        raise typer.Exit(SOME_FAILED)


def _print(judged: Sequence[tuple[Model, Evaluation]], written: Written) -> None:
    if len(judged) == 1:
        print_evaluation(*judged[0])
    else:
        from blemish.evaluation import compared
        from blemish.report.figures import names_of

        evaluations = [found for _, found in judged]
        named = list(zip(names_of(evaluations), evaluations, strict=True))
        print_comparison(named, [compared(evaluations[0], other) for other in evaluations[1:]])
        for (name, _), (model, _) in zip(named, judged, strict=True):
            out.print(f"{escape(name)}: {threshold_line(model.calibration)}")
    kept = {"report": written.report, "images": written.images, "table": written.table, "curves": written.curves}
    for what, path in kept.items():
        if path is not None:
            out.print(f"{what}: {escape(str(path))}")
