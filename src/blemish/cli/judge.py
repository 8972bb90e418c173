"""Commands that score images: `predict` and `check`."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from dataclasses import replace
from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

from blemish.cli.console import (
    bars,
    err,
    escape,
    ignore_closed_output,
    looking_anomalous,
    out,
    print_json,
    print_prediction,
    threshold_line,
)
from blemish.cli.needs import needs
from blemish.cli.options import SOME_FAILED, BoxRate, DeviceName, EngineName, FalseAlarmRate, Force, Json, Threshold
from blemish.errors import SettingError, number_of

if TYPE_CHECKING:
    from blemish.datasets import Dataset
    from blemish.model import Prediction


class Maps(str, Enum):
    none = "none"
    overlay = "overlay"
    heat = "heat"
    npy = "npy"


class Format(str, Enum):
    jsonl = "jsonl"
    csv = "csv"
    coco = "coco"
    yolo = "yolo"
    geojson = "geojson"


def predict(
    model: Annotated[str, typer.Argument(help="A model, the folder that fit wrote.")],
    sources: Annotated[list[str], typer.Argument(help="Images, folders, or layout:PATH.")],
    out_folder: Annotated[
        str | None,
        typer.Option("--out", help="A new folder for results.jsonl and pictures, or with --ray for Parquet."),
    ] = None,
    maps: Annotated[
        Maps | None,
        typer.Option(
            help="With --out: overlay (marks on the photograph; default), heat (the heat map), npy (its values) or "
            "none (default with --ray and --review)."
        ),
    ] = None,
    forms: Annotated[
        list[Format] | None,
        typer.Option("--format", help="How results are printed, or with --out also written; may be repeated."),
    ] = None,
    review: Annotated[
        bool, typer.Option("--review", help="With --out: a page, review.html, to accept or reject verdicts and boxes.")
    ] = False,
    false_alarm_rate: FalseAlarmRate = None,
    threshold: Threshold = None,
    box_rate: BoxRate = None,
    engine: EngineName = "auto",
    device: DeviceName = "auto",
    ray: Annotated[
        str | None, typer.Option(help="Predict on a cluster: local, auto or HOST:PORT; needs --out.")
    ] = None,
    part: Annotated[int | None, typer.Option(help="With --ray: images in each Parquet file; 256 by default.")] = None,
    threads: Annotated[int | None, typer.Option(help="With --ray: cores of each worker; 1 by default.")] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Score images. Exit status 3 if some could not be read.

    Example: [bold]blemish predict cells.blemish cells/new --out results --json[/bold]
    """
    from blemish.model import Model

    written = list(dict.fromkeys(form.value for form in forms or []))
    if as_json and written not in ([], ["jsonl"]) and out_folder is None:
        raise SettingError(f"--json prints lines of JSON, and --format {written[-1]} was given too; give one of them")
    needs("predict", model, *sources, out_folder, report=review, ray=ray is not None)
    if ray is not None:
        if device not in {"auto", "cpu"}:
            raise SettingError(
                f"--device {device} names a device of one machine, and --ray uses many machines; leave out one"
            )
        if written or review:
            raise SettingError("--ray writes Parquet only; leave --format and --review out, or predict without --ray")
        rates = (false_alarm_rate, threshold, box_rate)
        return _predict_on_ray(model, sources, out_folder, maps, rates, engine, ray, part, threads, force, as_json)
    if part is not None or threads is not None:
        raise SettingError("--part and --threads are for a cluster; give --ray local, or leave them out")
    if out_folder is None:
        _check_no_folder(maps, written, review)
    as_json = as_json or (written == ["jsonl"] and out_folder is None)
    loaded = Model.load(model, engine, device=device).at(
        false_alarm_rate=false_alarm_rate, threshold=threshold, box_rate=box_rate
    )
    if not as_json:
        err.print(threshold_line(loaded.calibration))
    failed = 0
    streamed = bool(written) and not as_json and out_folder is None
    with bars() as progress:
        predictions = loaded.predict(list(sources), progress, errors="keep")
        if out_folder is not None:
            from blemish.results import write_results

            predictions = write_results(
                loaded,
                predictions,
                out_folder,
                (maps or (Maps.none if review else Maps.overlay)).value,
                sources=sources,
                formats=written,
                review=review,
                force=force,
            )
        elif streamed:
            from blemish.results import stream_results

            predictions = stream_results(loaded, predictions, sys.stdout, written[0], sources=sources)
        for prediction in predictions:
            failed += prediction.error is not None
            with ignore_closed_output() if out_folder is not None else nullcontext():
                if as_json:
                    print_json(prediction.as_dict())
                elif not streamed or prediction.error is not None:
                    print_prediction(prediction)
            del prediction  # maps of large photographs take much memory
    if review:
        err.print(f"review them in a browser: {escape(str(out_folder))}/review.html")
    if failed:
        raise typer.Exit(SOME_FAILED)
    return None


def _check_no_folder(maps: Maps | None, forms: list[str], review: bool) -> None:
    """Raises `SettingError` if an option needs a folder to write to, since none was given."""
    asked = "--review" if review else "--format yolo" if forms == ["yolo"] else None
    if len(forms) > 1:
        asked = " ".join(f"--format {form}" for form in forms)
    if asked is None and maps is not None and maps != Maps.none:
        asked = f"--maps {maps.value}"
    if asked is not None:
        raise SettingError(f"{asked} needs a folder to write to; give --out DIR")


def _predict_on_ray(
    model: str,
    sources: list[str],
    out_folder: str | None,
    maps: Maps | None,
    rates: tuple[float | None, float | None, float | None],
    engine: str,
    address: str,
    part: int | None,
    threads: int | None,
    force: bool,
    as_json: bool,
) -> None:
    from blemish.distributed.judging import Rates
    from blemish.distributed.predict import IMAGES
    from blemish.distributed.predict import predict as predict_on_ray

    if out_folder is None:
        raise SettingError("--ray needs a folder for its Parquet files; give --out DIR")
    with bars() as progress:
        done = predict_on_ray(
            model,
            sources,
            out_folder,
            address=address,
            maps=(maps or Maps.none).value,
            rates=Rates(*rates),
            engine=engine,
            images=IMAGES if part is None else part,
            threads=1 if threads is None else threads,
            force=force,
            progress=progress,
        )
    if as_json:
        print_json(done.as_dict())
    else:
        counts = done.counts
        failed = f"; [red]{counts.errors} could not be read[/red]" if counts.errors else ""
        out.print(f"{number_of(counts.images, 'image')}, {counts.anomalies} anomalous{failed}")
        kept = f", {done.parts - done.computed} of them from an earlier run" if done.computed < done.parts else ""
        out.print(f"{number_of(done.parts, 'Parquet file')}{kept}: {escape(done.folder)}")
    if done.counts.errors:
        raise typer.Exit(SOME_FAILED)


def check(
    source: Annotated[str, typer.Argument(help="Folder, tree, or layout:PATH.")],
    deep: Annotated[
        bool, typer.Option("--deep", help="Also fit on the good images, and list those that look anomalous themselves.")
    ] = False,
    out_folder: Annotated[str | None, typer.Option("--out", help="With --deep: a new folder for heat maps.")] = None,
    device: DeviceName = "auto",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """List problems in a data set and how to fix each.

    Exit status 1 if a fit would stop at one of them, else 3 if an image or a mask cannot be read.

    Example: [bold]blemish check bottle[/bold]
    """
    from blemish.datasets.check import check_source, joined
    from blemish.storage import check_free

    needs("check --deep" if deep else "check", source, out_folder, fit=deep)
    if out_folder is not None:
        if not deep:
            raise SettingError("--out is for the heat maps of --deep; give --deep too")
        check_free(out_folder, "predictions", force=force)
    with bars() as progress:
        found = check_source(source, progress)
    findings = found.findings
    stops = any(finding.stops_fit for finding in findings)
    suspects = _suspects(found.dataset, out_folder, device, force) if deep and not stops else None
    if as_json:
        shapes = None if found.shapes is None else found.shapes.as_dict()
        told = [finding.as_dict() for finding in findings]
        looked = {} if suspects is None else {"suspicious": [suspect.as_dict() for suspect in suspects]}
        print_json({"source": str(found.dataset), "shapes": shapes, "findings": told, **looked})
    else:
        out.print(escape(str(found.dataset)))
        if found.shapes is not None:
            out.print(escape(str(found.shapes)))
        lines = joined(findings)
        for where, what in lines:
            out.print(f"[yellow]{escape(where)}[/yellow]: {escape(what)}")
        out.print(number_of(len(lines), "problem") if lines else "no problems")
        if suspects is not None:
            out.print(looking_anomalous(len(suspects)) + (":" if suspects else ""))
            for suspect in suspects:
                print_prediction(suspect)
            if out_folder is not None:
                out.print(f"heat maps: {escape(str(out_folder))}" if suspects else "so no heat maps are written")
    if stops:
        raise typer.Exit(1)
    if any(finding.kind == "unreadable" for finding in findings):
        raise typer.Exit(SOME_FAILED)


def _suspects(dataset: Dataset, folder: str | None, device: str, force: bool) -> list[Prediction]:
    """Returns predictions, without maps, of the good images that look anomalous; writes heat maps if there are any."""
    from blemish.fitting import find_suspects
    from blemish.results import write_results

    with bars() as progress:
        model, paths = find_suspects(dataset, progress, device)
        predictions = model.predict(paths, errors="keep") if paths else iter(())
        if folder is not None and paths:
            predictions = write_results(model, predictions, folder, sources=[dataset.root], force=force)
        return [replace(prediction, map=None) for prediction in predictions]
