"""`blemish export`."""

from __future__ import annotations

from dataclasses import asdict
from enum import Enum
from typing import Annotated

import typer

from blemish.cli.console import bars, escape, out, print_json, problem
from blemish.cli.needs import needs
from blemish.cli.options import DeviceName, EngineName, Force, Json
from blemish.errors import number_of

MEGABYTE = 1e6


class Form(str, Enum):
    openvino = "openvino"
    onnx = "onnx"
    torch = "torch"
    tensorrt_onnx = "tensorrt-onnx"


def export(
    model: Annotated[str, typer.Argument(help="A model, the folder that fit wrote.")],
    output: Annotated[str, typer.Option("--output", "-o", help="Where the export goes, a new folder.")],
    form: Annotated[Form, typer.Option("--format", help="The format of the graph.")],
    half: Annotated[bool, typer.Option("--half", help="Store numbers in half precision, for half the size.")] = False,
    images: Annotated[
        str | None,
        typer.Option(help="Images to check the export on; by default some of those that calibrated the model."),
    ] = None,
    engine: EngineName = "auto",
    device: DeviceName = "auto",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Write a model as one graph for another runtime, after checking it on real images.

    Example: [bold]blemish export cells.blemish -o cells-onnx --format onnx[/bold]
    """
    from blemish.export import export_model
    from blemish.export.formats import format_of
    from blemish.model import Model

    format_of(form.value).require()
    needs("export", model, output, images)
    loaded = Model.load(model, engine, device=device)
    with bars() as progress:
        done = export_model(loaded, output, form.value, half=half, images=images, force=force, progress=progress)
    agreement = done.agreement
    if agreement.flipped:
        problem(
            f"[yellow]warning:[/yellow] {number_of(len(agreement.flipped), 'image')} near the threshold changed "
            f"verdict: {escape(', '.join(agreement.flipped))}"
        )
    if as_json:
        print_json({**asdict(done), "agreement": asdict(agreement)})
        return
    out.print(escape(str(agreement)))
    graph = sum(size for name, size in done.files.items() if name.startswith("model.") and name != "model.json")
    for name, size in done.files.items():
        out.print(f"{size / MEGABYTE:9.2f} MB  {name}")
    out.print(
        f"the graph takes {graph / MEGABYTE:.1f} MB; its numbers in single precision "
        f"{done.single_precision / MEGABYTE:.1f} MB"
    )
    out.print(f"saved to {escape(done.path)}")
