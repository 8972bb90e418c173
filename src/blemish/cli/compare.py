"""`blemish compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from blemish.cli.console import bars, err, escape, out, print_json, problem
from blemish.cli.needs import needs
from blemish.cli.options import SOME_FAILED, DeviceName, EngineName, Force, Json
from blemish.errors import number_of

if TYPE_CHECKING:
    from blemish.evaluation.compare import Comparison


def compare(
    source: Annotated[str, typer.Argument(help="Folder of good images, a tree, or layout:PATH.")],
    quality: Annotated[str | None, typer.Option(help="Such as fast,best; balanced if detectors are given.")] = None,
    detector: Annotated[str | None, typer.Option(help="Such as fre,padim; fre if qualities are given.")] = None,
    tile: Annotated[
        int | None, typer.Option(help="Cut photographs into tiles of this many pixels, such as 256.")
    ] = None,
    false_alarm_rate: Annotated[
        float | None,
        typer.Option(
            help="Share of good images allowed to raise an alarm. Default 0.01, or the lowest your image count allows."
        ),
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write a self-contained page, FILE.html.")] = None,
    out_folder: Annotated[Path | None, typer.Option("--out", help="Keep the models in this folder.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the fits and of splits.", min=0)] = 0,
    engine: EngineName = "auto",
    device: DeviceName = "auto",
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out images that cannot be read.")] = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Fit several detectors and qualities; print the time and size of each and, with labels, how well it detects.

    By default: fre at every quality, padim and gaussian at balanced.

    Exit status 3 if some labelled images could not be read.

    Example: [bold]blemish compare cells --false-alarm-rate 0.05 --report compared.html[/bold]
    """
    import blemish
    from blemish.datasets import read_source
    from blemish.storage import check_free_file

    needs("compare", source, fit=True, report=report is not None)
    if report is not None:
        check_free_file(report, force=force)
    dataset = read_source(source, seed)
    err.print(escape(str(dataset)))
    with bars() as progress:
        comparison = blemish.compare(
            dataset,
            qualities=_names(quality),
            detectors=_names(detector),
            tile=tile,
            false_alarm_rate=false_alarm_rate,
            seed=seed,
            engine=engine,
            device=device,
            skip_bad=skip_bad,
            out=out_folder,
            force=force,
            progress=progress,
            announce=lambda entrant, plan: err.print(escape(f"{entrant}: {plan}")),
        )
    if report is not None:
        from blemish.report import write_comparison

        write_comparison(comparison, report, force=force)
    if as_json:
        print_json(comparison.as_dict())
    else:
        _print(comparison)
        if out_folder is not None:
            out.print(f"models: {escape(str(out_folder))}")
        if report is not None:
            out.print(f"report: {escape(str(report))}")
    if comparison.unreadable:
        raise typer.Exit(SOME_FAILED)


def _names(text: str | None) -> list[str] | None:
    """Reads `fast,best`."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _print(comparison: Comparison) -> None:
    """Prints two tables, since one would be too wide: what each model takes, and how it is calibrated and detects."""
    takes, detects = Table(box=None, pad_edge=False), Table(box=None, pad_edge=False)
    for head in ("detector", "quality", "backbone", "input", "fit s", "ms/image", "MB"):
        takes.add_column(head, justify="left" if head in {"detector", "quality", "backbone"} else "right", no_wrap=True)
    figures = ("false\nalarms %", "detected\n%", "image\nAUROC", "pixel\nAUROC") if comparison.dataset.test else ()
    for head in ("detector", "quality", "images to\ncalibrate", "stated\nrate %", *figures):
        detects.add_column(head, justify="left" if head in {"detector", "quality"} else "right", no_wrap=True)
    for row in comparison.rows:
        names = [row.detector, row.quality or "–"]
        shape = f"{row.shape[0]}x{row.shape[1]}"
        taken = [f"{row.fit_seconds:.1f}", f"{1000 * row.seconds_per_image:.1f}", f"{row.bytes / 1e6:.1f}"]
        takes.add_row(*names, escape(row.backbone), shape, *taken)
        cells = [str(row.images), f"{100 * row.stated_rate:.1f}"]
        if row.detection is not None:
            found = row.detection
            cells += [_percent(found.false_alarm_rate, 1), _percent(found.detection_rate, 1)]
            cells += [_percent(found.image_auroc, 2), _percent(found.pixel_auroc, 2)]
        detects.add_row(*names, *cells)
    out.print(takes, "", detects, sep="\n")
    if comparison.missing:
        out.print(escape(comparison.missing))
    if comparison.unreadable:
        left_out = "is left out" if comparison.unreadable == 1 else "are left out"
        problem(f"{number_of(comparison.unreadable, 'labelled image')} could not be read and {left_out}")


def _percent(figure: float | None, digits: int) -> str:
    return "–" if figure is None else f"{100 * figure:.{digits}f}"
