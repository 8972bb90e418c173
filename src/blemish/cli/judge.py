"""Commands that score images: `predict` and `check`."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from blemish.cli.console import (
    bars,
    err,
    looking_anomalous,
    out,
    print_json,
    print_prediction,
    verdicts,
    whoever_reads,
)
from blemish.cli.options import SOME_FAILED, BoxRate, EngineName, FalseAlarmRate, Force, Json, Threshold
from blemish.errors import SettingError

if TYPE_CHECKING:
    from blemish.datasets import Dataset
    from blemish.model import Prediction


class Maps(str, Enum):
    none = "none"
    png = "png"
    npy = "npy"


def predict(
    model: Annotated[str, typer.Argument(help="What fit wrote.")],
    sources: Annotated[list[str], typer.Argument(help="Images, folders, or layout:PATH.")],
    out_folder: Annotated[
        str | None,
        typer.Option("--out", help="A new folder for results.jsonl and maps, or with --ray for Parquet."),
    ] = None,
    maps: Annotated[
        Maps | None,
        typer.Option(help="With --out: none (default with --ray), png (heat maps; default) or npy (values)."),
    ] = None,
    false_alarm_rate: FalseAlarmRate = None,
    threshold: Threshold = None,
    box_rate: BoxRate = None,
    engine: EngineName = "auto",
    ray: Annotated[str | None, typer.Option(help="On many machines: local, auto or HOST:PORT; needs --out.")] = None,
    part: Annotated[int | None, typer.Option(help="With --ray: images in each Parquet file; 256 by default.")] = None,
    threads: Annotated[int | None, typer.Option(help="With --ray: cores of each worker; 1 by default.")] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Score images. Status 3 if some could not be read.

    Example: [bold]blemish predict cells.blemish cells/new --out results --json[/bold]
    """
    from blemish.model import Model

    if ray is not None:
        rates = (false_alarm_rate, threshold, box_rate)
        return _predict_on_ray(model, sources, out_folder, maps, rates, engine, ray, part, threads, force, as_json)
    if part is not None or threads is not None:
        raise SettingError("--part and --threads are for a cluster; give --ray local, or leave them out")
    if maps and maps != Maps.none and out_folder is None:
        raise SettingError(f"--maps {maps.value} needs a folder to write to; give --out DIR")
    loaded = Model.load(model, engine).at(false_alarm_rate=false_alarm_rate, threshold=threshold, box_rate=box_rate)
    if not as_json:
        err.print(verdicts(loaded.calibration))
    failed = 0
    with bars() as progress:
        predictions = loaded.predict(list(sources), progress)
        if out_folder is not None:
            from blemish.report import write_results

            predictions = write_results(loaded, predictions, out_folder, (maps or Maps.png).value, force=force)
        for prediction in predictions:
            failed += prediction.error is not None
            with whoever_reads() if out_folder is not None else nullcontext():
                if as_json:
                    print_json(prediction.as_dict())
                else:
                    print_prediction(prediction)
            del prediction  # maps of large photographs take room
    if failed:
        raise typer.Exit(SOME_FAILED)
    return None


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
        out.print(f"{counts.images} images, {counts.anomalies} anomalous{failed}")
        kept = f", {done.parts - done.computed} of them there already" if done.computed < done.parts else ""
        out.print(f"{done.parts} Parquet files{kept}: {escape(done.folder)}")
    if done.counts.errors:
        raise typer.Exit(SOME_FAILED)


def check(
    source: Annotated[str, typer.Argument(help="Folder, tree, or layout:PATH.")],
    deep: Annotated[
        bool, typer.Option("--deep", help="Also fit on the good images, and list those that look anomalous themselves.")
    ] = False,
    out_folder: Annotated[str | None, typer.Option("--out", help="With --deep: a new folder for heat maps.")] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """List what is wrong with a data set, and what to do. Status 1 if a fit would stop there.

    Example: [bold]blemish check bottle[/bold]
    """
    from blemish.datasets.check import check_source
    from blemish.storage import check_free

    if out_folder is not None:
        if not deep:
            raise SettingError("--out is for the images that --deep finds; give --deep too")
        check_free(out_folder, "predictions", force=force)
    with bars() as progress:
        found = check_source(source, progress)
    findings = found.findings
    stops = any(finding.stops_fit for finding in findings)
    suspects = _suspects(found.dataset, out_folder, force) if deep and not stops else None
    if as_json:
        shapes = None if found.shapes is None else found.shapes.as_dict()
        told = [finding.as_dict() for finding in findings]
        looked = {} if suspects is None else {"suspicious": [suspect.as_dict() for suspect in suspects]}
        print_json({"source": str(found.dataset), "shapes": shapes, "findings": told, **looked})
    else:
        out.print(escape(str(found.dataset)))
        if found.shapes is not None:
            out.print(str(found.shapes))
        for finding in findings:
            out.print(f"[yellow]{escape(finding.where)}[/yellow]: {escape(finding.what)}; {escape(finding.mend)}")
        out.print(f"{len(findings)} to look at" if findings else "nothing is wrong")
        if suspects is not None:
            out.print(looking_anomalous(len(suspects)) + (":" if suspects else ""))
            for suspect in suspects:
                print_prediction(suspect)
            if out_folder is not None:
                out.print(f"heat maps: {escape(str(out_folder))}" if suspects else "so no heat maps are written")
    if stops:
        raise typer.Exit(1)


def _suspects(dataset: Dataset, folder: str | None, force: bool) -> list[Prediction]:
    """Returns predictions, without maps, of the good images that look anomalous; writes heat maps if there are any."""
    from blemish.fitting import find_suspects
    from blemish.report import write_results

    with bars() as progress:
        model, paths = find_suspects(dataset, progress)
        predictions = model.predict(paths) if paths else iter(())
        if folder is not None and paths:
            predictions = write_results(model, predictions, folder, force=force)
        return [replace(prediction, map=None) for prediction in predictions]
