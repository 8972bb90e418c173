"""`blemish info`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from blemish.cli.console import described, escape, out, print_json, threshold_line
from blemish.cli.needs import needs
from blemish.cli.options import Json
from blemish.errors import number_of


def info(
    model: Annotated[str, typer.Argument(help="A model, the folder that fit wrote.")],
    as_json: Json = False,
) -> None:
    """Tell what a model is, what it learned from, when, and what it promises.

    Example: [bold]blemish info cells.blemish[/bold]
    """
    from blemish.evaluation.origin import Origin
    from blemish.model import Model

    needs("info", model)
    loaded = Model.load(model)
    origin, changes = Origin.of(loaded), loaded.provenance.changes
    if as_json:
        told = {**origin.as_dict()["model"], **described(loaded)}
        print_json({**told, "inside": len(loaded.inside), "changes": [asdict(change) for change in changes]})
        return
    settings = ", ".join(f"{name} {value}" for name, value in origin.settings.items())
    made_with = ", ".join(f"{name} {number}" for name, number in origin.fitted_with.items())
    tile = loaded.recipe.geometry.tile
    lines = [
        f"{origin.detector} on {loaded.recipe.backbone_and_layers}",
        f"settings: {settings}; seed {origin.seed}",
        f"weights: {origin.weights}",
        f"input: {'x'.join(map(str, origin.input))} pixels" + (f", tiles of {tile}" if tile else ""),
        f"has learned from {number_of(len(loaded.inside), 'good image')}",
        *(
            f"  {change.created} {change.kind}: {number_of(change.images, 'image')}, {change.source}"
            for change in changes
        ),
        threshold_line(loaded.calibration),
        f"made with {made_with}",
        f"digest: {origin.digest}",
    ]
    for line in lines:
        out.print(escape(line))
