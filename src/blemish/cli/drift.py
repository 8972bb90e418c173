"""`blemish drift`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blemish.cli.console import bars, err, escape, out, print_json, print_prediction
from blemish.cli.needs import needs
from blemish.cli.options import SOME_FAILED, DeviceName, EngineName, Force, Json
from blemish.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from blemish.model import Model, Prediction
    from blemish.progress import Progress


def drift(
    model: Annotated[str, typer.Argument(help="A model, the folder that fit wrote.")],
    sources: Annotated[
        list[str], typer.Argument(help="Images in order, folders, layout:PATH, or FILE.jsonl that predict wrote.")
    ],
    level: Annotated[
        float, typer.Option(help="Evidence that raises the alarm; 100: a false alarm in at most 1 % of streams.")
    ] = 100.0,
    window: Annotated[
        int, typer.Option(help="How many of the latest images the mean and the test use.", max=1_000_000)
    ] = 100,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The picture, FILE.png.")] = None,
    engine: EngineName = "auto",
    device: DeviceName = "auto",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Tell whether images still look like those that calibrated the model. Exit status 3 if some could not be read.

    Example: [bold]blemish drift cells.blemish results/results.jsonl -o drift.png[/bold]
    """
    from blemish.maps import check_picture, write_picture
    from blemish.model import Model
    from blemish.model.drift import check_settings

    needs("drift", model, *sources, scipy=True)
    check_settings(level, window)
    if output is not None:
        check_picture(output, force=force)
    loaded = Model.load(model, engine, device=device)
    p_values, names = [], []
    known, failed = 0, 0
    with bars() as progress:
        for prediction in _predicted(loaded, sources, progress):
            if prediction.error is not None:
                failed += 1
                print_prediction(prediction)
            elif prediction.is_known:
                known += 1
            else:
                p_values.append(prediction.p_value)
                names.append(str(prediction.path))
            del prediction  # maps of large photographs take much memory
    left_out = f"{known} that the model was fitted on and {failed} that could not be read are left out"
    if not p_values:
        raise SourceError(f"no image is left to judge: {left_out}; give new images")
    found = loaded.drift(p_values, names=names, level=level, window=window)
    if output is not None:
        write_picture(found.picture(), output, force=force)
    if as_json:
        print_json({**found.as_dict(), "known": known, "unreadable": failed})
    else:
        out.print(f"[{'red' if found.is_drift else 'green'}]{escape(str(found))}[/]")
        out.print(
            f"the latest {found.window}: mean p-value {found.running_mean[-1]:.3f}; Kolmogorov-Smirnov test against "
            f"the {found.calibrated_on} that calibrated: p {found.window_p_value:.2g}, if tested once"
        )
        if not found.two_sided:
            err.print(
                "(scores that are lower from the first image on raise no alarm, because the model also learned from "
                "the images that calibrated it; they do after `blemish calibrate` on new images)"
            )
        if known or failed:
            err.print(left_out)
        if output is not None:
            out.print(f"picture: {escape(str(output))}")
    if failed:
        raise typer.Exit(SOME_FAILED)


def _predicted(model: Model, sources: list[str], progress: Progress) -> Iterable[Prediction]:
    """Yields the predictions of all sources in order; a source that is a file of JSON lines is read back."""
    from blemish.model.lines import read_lines
    from blemish.storage.remote import is_remote

    for source in sources:
        lines = source.lower().endswith(".jsonl")
        if lines and is_remote(source):
            raise SourceError(f"{source}: lines are read on this machine only; copy it here, and give its path")
        if not is_remote(source) and os.path.isfile(Path(source) / "results.jsonl"):
            raise SourceError(f"{source}: holds results of predict; give {Path(source) / 'results.jsonl'}")
        if lines:
            yield from read_lines(Path(source), model.calibration)
        else:
            yield from model.predict(source, progress, errors="keep")
