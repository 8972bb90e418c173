"""`blemish update`, `blemish merge` and `blemish forget`: change what a model has learned."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blemish.cli.console import bars, escape, listed, out, print_json, problem, threshold_line
from blemish.cli.needs import needs
from blemish.cli.options import SOME_FAILED, DeviceName, EngineName, Force, Json
from blemish.errors import number_of

if TYPE_CHECKING:
    from blemish.model import Model

Fitted = Annotated[str, typer.Argument(metavar="MODEL", help="A model, the folder that fit wrote.")]
Output = Annotated[
    str | None, typer.Option("--output", "-o", help="Where the model goes, a new folder; by default it is replaced.")
]


def update(
    model: Fitted,
    good_images: Annotated[str, typer.Argument(help="Folder of more good images, a tree, or layout:PATH.")],
    output: Output = None,
    only_good: Annotated[bool, typer.Option("--only-good", help="Leave out new images above the threshold.")] = False,
    newest: Annotated[
        int | None, typer.Option(help="Calibrate on the scores of this many newest images only.", max=1_000_000_000)
    ] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out images that cannot be read.")] = False,
    engine: EngineName = "auto",
    device: DeviceName = "auto",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Let a model learn from more good images, which also calibrate it. The earlier images are not needed.

    Example: [bold]blemish update cells.blemish new-parts/[/bold]
    """
    needs("update", model, good_images, output, torch=True)
    loaded, goal, replacing = _loaded(model, output, engine, device, force)
    with bars() as progress:
        changed = loaded.update(good_images, only_good=only_good, newest=newest, skip_bad=skip_bad, progress=progress)
    change = changed.provenance.changes[-1]
    _save(changed, loaded, goal, replacing)
    if not as_json:
        out.print(f"learned from {number_of(change.images, 'new image')}, {len(changed.inside)} in all")
        if change.repeated:
            out.print(
                f"{number_of(change.repeated, 'image was', 'images were')} in the model already and not counted again"
            )
    if change.skipped:
        left_out = "is left out" if change.skipped == 1 else "are left out"
        problem(f"{number_of(change.skipped, 'image')} could not be read and {left_out}")
    if change.anomalous:
        named = listed([f"{name} (p {p_value:.2g})" for name, p_value in change.worst], change.anomalous)
        came = change.images + (change.anomalous if change.left_out else 0)
        chance = f"of {number_of(came, 'good image')} about {loaded.calibration.rate * came:.2g} would by chance"
        what = "look" if change.anomalous > 1 else "looks"
        advice = "left out" if change.left_out else _advice(loaded, replaced=Path(goal) == Path(model))
        problem(f"[yellow]warning:[/yellow] {change.anomalous} {what} anomalous ({chance}): {named}; {advice}")
    _tell(changed, loaded, goal, as_json)
    if change.skipped:
        raise typer.Exit(SOME_FAILED)


def merge(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL MODEL...", help="Two or more, fitted with the same options.")
    ],
    output: Annotated[str, typer.Option("--output", "-o", help="Where the model of all images goes, a new folder.")],
    engine: EngineName = "auto",
    device: DeviceName = "auto",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Join models that were fitted with the same options into one model of all their images.

    Example: [bold]blemish merge monday.blemish tuesday.blemish -o week.blemish[/bold]
    """
    from blemish.model import Model
    from blemish.storage import check_free

    if len(models) < 2:
        raise typer.BadParameter("give two models or more")
    needs("merge", *models, output, torch=True)
    check_free(output, "model", force=force)
    first = Model.load(models[0], engine, device=device)
    merged = first
    with bars() as progress:
        for number, path in enumerate(models[1:], 1):
            merged = merged.merge(Model.load(path, engine, device=device))
            progress("merge", number, len(models) - 1)
    merged.save(output, force=force)
    if not as_json:
        out.print(f"merged {number_of(len(models), 'model')} of {number_of(len(merged.inside), 'image')} together")
    _tell(merged, first, output, as_json)


def forget(
    model: Fitted,
    images: Annotated[str, typer.Argument(help="The images to forget: one, a folder, a tree, or layout:PATH.")],
    output: Output = None,
    engine: EngineName = "auto",
    device: DeviceName = "auto",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Take images out of what a model has learned, as if it had never seen them.

    Example: [bold]blemish forget cells.blemish mistakes/[/bold]
    """
    needs("forget", model, images, output, torch=True)
    loaded, goal, replacing = _loaded(model, output, engine, device, force)
    with bars() as progress:
        changed = loaded.forget(images, progress=progress)
    _save(changed, loaded, goal, replacing)
    if not as_json:
        forgotten = number_of(changed.provenance.changes[-1].images, "image")
        out.print(f"forgot {forgotten}, {len(changed.inside)} are left")
    _tell(changed, loaded, goal, as_json)


def _loaded(path: str, output: str | None, engine: str, device: str, force: bool) -> tuple[Model, str, bool]:
    """Returns the model, where the changed one goes, and whether what is there is replaced."""
    from blemish.model import Model
    from blemish.storage import check_free

    goal, replacing = (path, True) if output is None else (output, force)
    loaded = Model.load(path, engine, device=device)
    check_free(goal, "model", force=replacing)
    return loaded, goal, replacing


def _advice(before: Model, *, replaced: bool) -> str:
    """Returns what to do about new images that look anomalous and were learned nevertheless."""
    if not replaced:
        return "look at them; if they are anomalous, update the earlier model again with --only-good"
    detector = before.learned.detector
    if detector.forgets:
        return "look at them; if they are anomalous, take them out with `blemish forget`"
    return f"look at them; if they are anomalous, fit again without them, since {detector.name} cannot forget"


def _save(changed: Model, loaded: Model, goal: str, replacing: bool) -> None:
    """Writes the changed model; it replaces the loaded model only if that has not changed on disk."""
    from blemish.model.saved import Saved

    store = loaded.store
    place = Path(goal)
    is_same = isinstance(store, Saved) and (place == store.folder or (place.exists() and place.samefile(store.folder)))
    changed.save(goal, force=replacing, replaces=loaded if is_same else None)


def _tell(changed: Model, before: Model, goal: str, as_json: bool) -> None:
    """Prints the calibration before and after the change."""
    if as_json:
        print_json(_as_dict(changed, before, goal))
        return
    for when, model in (("before", before), ("now", changed)):
        count = number_of(len(model.calibration.scores), "score calibrates", "scores calibrate")
        out.print(f"{when}: {count}, {threshold_line(model.calibration)}")
    out.print(f"saved to {escape(str(goal))}")


def _as_dict(changed: Model, before: Model, goal: str) -> dict[str, Any]:
    change, now, then = changed.provenance.changes[-1], changed.calibration, before.calibration
    return {
        "model": str(goal),
        "change": change.kind,
        "images": change.images,
        "inside": len(changed.inside),
        "repeated": change.repeated,
        "skipped": change.skipped,
        "anomalous": change.anomalous,
        "left_out": change.left_out,
        "worst": [{"image": name, "p_value": p_value} for name, p_value in change.worst],
        "scores": len(now.scores),
        "threshold": now.threshold,
        "false_alarm_rate": now.rate,
        "box_level": now.box_level,
        "display": list(now.display),
        "threshold_before": then.threshold,
        "false_alarm_rate_before": then.rate,
        "box_level_before": then.box_level,
        "display_before": list(then.display),
    }
