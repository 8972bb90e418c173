"""`blemish calibrate`."""

from __future__ import annotations

from typing import Annotated

import typer

from blemish.cli.console import bars, err, escape, out, print_json, problem, threshold_line
from blemish.cli.needs import needs
from blemish.cli.options import BoxRate, DeviceName, EngineName, FalseAlarmRate, Force, Json
from blemish.errors import number_of


def calibrate(
    model: Annotated[str, typer.Argument(help="A model, the folder that fit wrote.")],
    good_images: Annotated[str, typer.Argument(help="Folder of good images, a tree, or layout:PATH.")],
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="Where the model goes, a new folder; by default it is replaced."),
    ] = None,
    false_alarm_rate: FalseAlarmRate = None,
    box_rate: BoxRate = None,
    engine: EngineName = "auto",
    device: DeviceName = "auto",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Calibrate a model on other good images, such as those of another camera. What it learned does not change.

    Example: [bold]blemish calibrate cells.blemish second-camera/good --false-alarm-rate 0.05[/bold]
    """
    import blemish
    from blemish.datasets import read_source
    from blemish.model import Model
    from blemish.storage import check_free

    needs("calibrate", model, good_images, output)
    goal, replacing = (model, True) if output is None else (output, force)
    loaded = Model.load(model, engine, device=device)
    check_free(goal, "model", force=replacing)
    dataset = read_source(good_images, loaded.recipe.seed)
    err.print(escape(str(dataset)))
    with bars() as progress:
        calibrated = blemish.calibrate(
            loaded, dataset, false_alarm_rate=false_alarm_rate, box_rate=box_rate, progress=progress
        )
    told = calibrated.provenance.calibrated_on
    if told.seen:
        problem(
            f"[yellow]warning:[/yellow] the model was fitted on {told.seen} of these {told.images} images; images that "
            "it has seen have lower scores, so new ones will raise more alarms than stated; give other images"
        )
    calibrated.save(goal, force=replacing)
    if as_json:
        calibration, before = calibrated.calibration, calibrated.provenance.history[-1]
        print_json(
            {
                "model": str(goal),
                "images": told.images,
                "seen": told.seen,
                "threshold": calibration.threshold,
                "false_alarm_rate": calibration.rate,
                "box_rate": calibration.box_rate,
                "box_level": calibration.box_level,
                "threshold_before": before.threshold,
                "false_alarm_rate_before": before.rate,
            }
        )
    else:
        out.print(f"calibrated on {number_of(told.images, 'image')}")
        out.print(f"before: {threshold_line(loaded.calibration)}")
        out.print(f"now: {threshold_line(calibrated.calibration)}")
        out.print(f"saved to {escape(str(goal))}")
