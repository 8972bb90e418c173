"""Commands that show what a model has learned: `explain`, `sample` and `prune`."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blemish.cli.console import (
    bars,
    err,
    escape,
    ignore_closed_output,
    out,
    print_diagnoses,
    print_explanation,
    print_json,
    print_pruning,
    problem,
)
from blemish.cli.needs import needs
from blemish.cli.options import SOME_FAILED, BoxRate, DeviceName, EngineName, FalseAlarmRate, Force, Json, Threshold
from blemish.errors import ImageError, SettingError, install

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blemish.explanation import Explanation
    from blemish.model import Model


def explain(
    model: Annotated[str, typer.Argument(help="A model, the folder that fit wrote.")],
    sources: Annotated[list[str] | None, typer.Argument(help="Images or folders.")] = None,
    components: Annotated[
        str | None, typer.Option(help="How many components; best or worst; or indices such as 3,17. 12 by default.")
    ] = None,
    scale: Annotated[
        str, typer.Option(help="Colours of the components: fixed, per-component, cross-component or score.")
    ] = "fixed",
    figures: Annotated[
        str | None,
        typer.Option(help="SOURCE with labels (for gaussian, with masks): images and their maps, into --out."),
    ] = None,
    gallery: Annotated[str | None, typer.Option(help="SOURCE: a page of every component, into --out.")] = None,
    diagnoses: Annotated[str | None, typer.Option(help="SOURCE: a table of the components.")] = None,
    images: Annotated[int, typer.Option(help="Images in figures and gallery.", min=1, max=1000)] = 4,
    out_folder: Annotated[str | None, typer.Option("--out", help="A new folder for pictures.")] = None,
    false_alarm_rate: FalseAlarmRate = None,
    threshold: Threshold = None,
    box_rate: BoxRate = None,
    engine: EngineName = "auto",
    device: DeviceName = "auto",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Show why images have their scores, or what a model's components are like.

    Places are x and y in the image's own pixels, from its top left corner.

    Example: [bold]blemish explain cells.blemish cells/new/0017.png --out why[/bold]
    """
    from blemish.model import Model

    ways = [bool(sources), figures is not None, gallery is not None, diagnoses is not None]
    if sum(ways) != 1:
        raise SettingError("give images to explain, or one of --figures, --gallery and --diagnoses with a SOURCE")
    if (figures or gallery) and out_folder is None:
        raise SettingError("figures and galleries need a folder to write to; give --out DIR")
    needs(
        "explain",
        model,
        *(sources or ()),
        out_folder,
        torch=not sources or components is not None,
        report=gallery is not None,
    )
    loaded = Model.load(model, engine, device=device).at(
        false_alarm_rate=false_alarm_rate, threshold=threshold, box_rate=box_rate
    )
    if sources:
        _explain_images(loaded, sources, _components(components), scale, out_folder, force, as_json)
    else:
        _explain_model(loaded, figures, gallery, diagnoses, images, out_folder, force, as_json)


def _explain_images(
    model: Model,
    sources: list[str],
    components: int | str | list[int] | None,
    scale: str,
    out_folder: str | None,
    force: bool,
    as_json: bool,
) -> None:
    from blemish.datasets import read_source
    from blemish.report import write_explanations

    if find_spec("torch") is None:
        err.print(escape(f"components and reconstructions are left out, because they need torch; {install('fit')}"))
    paths = []
    for source in sources:
        dataset = read_source(source, model.recipe.seed)
        paths += [sample.path for sample in dataset.test or dataset.train]
    failed = 0

    def explained() -> Iterator[Explanation]:
        nonlocal failed
        for done, path in enumerate(paths):
            try:
                yield model.explain(path, components)
            except ImageError as error:
                failed += 1
                problem(f"[red]error:[/red] {escape(str(error))}")
            progress("explain", done + 1, len(paths))

    with bars() as progress:
        explanations = explained()
        if out_folder is not None:
            explanations = write_explanations(explanations, out_folder, scale, force=force)
        for explanation in explanations:
            with ignore_closed_output() if out_folder is not None else nullcontext():
                if as_json:
                    print_json(explanation.as_dict())
                else:
                    print_explanation(explanation)
    if failed:
        raise typer.Exit(SOME_FAILED)


def _explain_model(
    model: Model,
    figures: str | None,
    gallery: str | None,
    diagnoses: str | None,
    images: int,
    out_folder: str | None,
    force: bool,
    as_json: bool,
) -> None:
    from blemish.components import diagnose, write_figures, write_gallery
    from blemish.datasets import read_source
    from blemish.report import write_layers

    dataset = read_source(figures or gallery or diagnoses or "", model.recipe.seed)
    err.print(escape(str(dataset)))
    with bars() as progress:
        if figures is not None and out_folder is not None:
            write = write_figures if model.recipe.detector == "gaussian" else write_layers
            names = write(model, dataset, out_folder, images=images, force=force, progress=progress)
            out.print("\n".join(escape(f"{out_folder}/{name}") for name in names))
        elif gallery is not None and out_folder is not None:
            write_gallery(model, dataset, out_folder, images=images, force=force, progress=progress)
            out.print(f"gallery: {escape(out_folder)}/index.html")
        else:
            labelled = dataset.test if dataset.has_masks else []
            rows = diagnose(model, dataset.train, labelled, progress)
            if as_json:
                for row in rows:
                    print_json(asdict(row))
            else:
                print_diagnoses(rows)


def sample(
    model: Annotated[str, typer.Argument(help="A model of detector vae or vae-grf.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The picture, FILE.png.")],
    count: Annotated[int, typer.Option("-n", help="How many images.", min=1, max=256)] = 16,
    seed: Annotated[int, typer.Option(help="Seed of the draw.", min=0, max=(1 << 32) - 1)] = 0,
    device: DeviceName = "auto",
    force: Force = False,
) -> None:
    """Draw images from the prior of a VAE: they show what it takes good images to look like.

    Example: [bold]blemish sample fields.blemish -n 16 -o grid.png[/bold]
    """
    from blemish.model import Model
    from blemish.report import write_grid
    from blemish.storage import check_free_file

    needs("sample", model, torch=True)
    check_free_file(output, force=force)
    write_grid(Model.load(model, device=device).sample(count, seed), output, force=force)
    out.print(f"saved to {escape(str(output))}")


def prune(
    model: Annotated[str, typer.Argument(help="A model of detector gaussian.")],
    output: Annotated[str, typer.Option("--output", "-o", help="Where the pruned model goes, a new folder.")],
    source: Annotated[str | None, typer.Argument(help="The data it was fitted on, if it has moved.")] = None,
    drop_border: Annotated[
        float | None,
        typer.Option(help="Leave out components this many times larger on the border of good images.", min=0, max=1e9),
    ] = None,
    keep_best: Annotated[
        int | None,
        typer.Option(
            help="Keep this many of each layer, those with the highest AUROC on the labelled images.",
            min=1,
            max=1_000_000,
        ),
    ] = None,
    drop: Annotated[str | None, typer.Option(help="Leave out these: 3,17 or, with several layers, 2:3,3:17.")] = None,
    engine: EngineName = "auto",
    device: DeviceName = "auto",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Leave components out of a gaussian model, and show figures before and after.

    Example: [bold]blemish prune cells.blemish --drop-border 2.0 -o pruned.blemish[/bold]
    """
    needs("prune", model, source, output, torch=True)
    from blemish.components import prune as pruned
    from blemish.datasets import read_source
    from blemish.model import Model
    from blemish.storage import check_free

    check_free(output, "model", force=force)
    loaded = Model.load(model, engine, device=device)
    names = None if drop is None else [name.strip() for name in drop.split(",") if name.strip()]
    dataset = read_source(source or loaded.provenance.source, loaded.recipe.seed)
    err.print(escape(str(dataset)))
    with bars() as progress:
        result = pruned(loaded, dataset, border=drop_border, keep_best=keep_best, drop=names, progress=progress)
    result.model.save(output, force=force)
    if as_json:
        figures = [None if found is None else found.as_dict() for found in (result.before, result.after)]
        print_json({"model": str(output), "dropped": result.dropped, "before": figures[0], "after": figures[1]})
    else:
        print_pruning(result, output)


def _components(text: str | None) -> int | str | list[int] | None:
    """Reads `12`, `best`, `worst`, or indices; a single index has a comma after it."""
    if text is None or not text.replace(",", "").replace(" ", "").isdecimal():
        return text
    if any(len(number.strip()) > 9 for number in text.split(",")):
        raise SettingError(f"{text}: a component has at most 9 digits; give its index")
    numbers = [int(number) for number in text.split(",") if number.strip()]
    return numbers if "," in text else numbers[0]
