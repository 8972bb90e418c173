"""The command: parses, makes one library call, prints. All that a user may do wrong ends in one line and status 1."""

from __future__ import annotations

import atexit
import json
import os
import sys
from contextlib import suppress
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.markup import escape

from blemish.console import (
    bars,
    described,
    err,
    out,
    print_diagnoses,
    print_evaluation,
    print_explanation,
    print_json,
    print_model,
    print_prediction,
    print_pruning,
)
from blemish.errors import BlemishError, ImageError, ModelError, SettingError, is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blemish.evaluation import Evaluation
    from blemish.explanation import Explanation
    from blemish.model import Model

SOME_FAILED = 3
INTERRUPTED = 130
OUT_OF_MEMORY = "out of memory; close other programs or raise the limit, or give a smaller --size or fewer --layers"

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Finds what does not belong in images, having seen only normal ones.",
    epilog="Add --debug to any command to see the traceback of an error.",
)


class Maps(str, Enum):
    none = "none"
    png = "png"
    npy = "npy"


Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]
EngineName = Annotated[str, typer.Option("--engine", help="auto, openvino or torch.")]


@app.command()
def fit(
    source: Annotated[str, typer.Argument(help="Folder of good images, a tree, or layout:PATH.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the model goes, a new folder.")],
    detector: Annotated[str | None, typer.Option(help="fre (default), padim, gaussian, hfr, vae or vae-grf.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE, a setting of the detector; may be repeated.")
    ] = None,
    map: Annotated[
        str | None, typer.Option("--map", help="Of a VAE: mad, sm, mad-sm, l2, gradient, gradient-sm or projection.")
    ] = None,
    backbone: Annotated[str | None, typer.Option(help="efficientnet_lite0 (default), or a network of timm's.")] = None,
    layers: Annotated[str | None, typer.Option(help="Levels or names of modules, e.g. 2,3,4.")] = None,
    size: Annotated[str | None, typer.Option(help="256 (default), HEIGHTxWIDTH; with --tile, its own.")] = None,
    crop: Annotated[int | None, typer.Option(help="Side of a centre crop after resizing.")] = None,
    tile: Annotated[int | None, typer.Option(help="Cut photographs into tiles of so many pixels, such as 256.")] = None,
    overlap: Annotated[int | None, typer.Option(help="Pixels that tiles share; a quarter of them by default.")] = None,
    preset: Annotated[str | None, typer.Option(help="A paper's settings, e.g. padim-r18-rd100.")] = None,
    false_alarm_rate: Annotated[
        float | None, typer.Option(help="What the threshold promises; 0.01, or the lowest that can be had.")
    ] = None,
    calibration_share: Annotated[float, typer.Option(help="Share of the images held out to calibrate.")] = 0.2,
    seed: Annotated[int, typer.Option(help="Of the hold-out and of splits.", min=0)] = 0,
    engine: EngineName = "auto",
    weights: Annotated[Path | None, typer.Option(help="A file with the backbone's weights.")] = None,
    download: Annotated[bool, typer.Option("--download", help="Let timm fetch the weights.")] = False,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out images that cannot be read.")] = False,
    checkpoints: Annotated[
        Path | None, typer.Option(help="Of a detector that is trained: a folder for checkpoints and its log.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in --checkpoints.")] = False,
    memory: Annotated[
        float | None, typer.Option(help="GB for the features that hfr is trained on; else they go to disk.", min=0)
    ] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Fit on good images, and calibrate.

    Example: [bold]blemish fit cells/good -o cells.blemish --false-alarm-rate 0.01[/bold]
    """
    import blemish
    from blemish.datasets import read_source
    from blemish.storage import check_free

    check_free(output, force=force)
    if resume and checkpoints is None:
        raise SettingError("--resume needs the folder of the checkpoint; give --checkpoints DIR")
    chosen = {**_settings(settings or []), **({"map": map} if map else {})}
    dataset = read_source(source, seed)
    err.print(escape(str(dataset)))
    with bars() as progress:
        model = blemish.fit(
            dataset,
            detector=detector,
            settings=chosen,
            backbone=backbone,
            layers=_layers(layers),
            size=size,
            crop=crop,
            tile=tile,
            overlap=overlap,
            preset=preset,
            false_alarm_rate=false_alarm_rate,
            calibration_share=calibration_share,
            seed=seed,
            engine=engine,
            weights=weights,
            download=download,
            skip_bad=skip_bad,
            progress=progress,
            announce=lambda plan: err.print(str(plan)),
            checkpoints=checkpoints,
            resume=resume,
            memory=None if memory is None else round(1e9 * memory),
        )
    model.save(output, force=force)
    if as_json:
        print_json({"model": str(output), **described(model)})
    else:
        print_model(model, output)


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="What fit wrote.")],
    sources: Annotated[list[str], typer.Argument(help="Images, folders, or layout:PATH.")],
    out_folder: Annotated[Path | None, typer.Option("--out", help="A new folder for results.jsonl and maps.")] = None,
    maps: Annotated[
        Maps | None, typer.Option(help="With --out: none, png (heat maps; default) or npy (values).")
    ] = None,
    engine: EngineName = "auto",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Score images. Status 3 if some could not be read.

    Example: [bold]blemish predict cells.blemish cells/new --out results --json[/bold]
    """
    from blemish.model import Model
    from blemish.report import write_results

    if maps and maps != Maps.none and out_folder is None:
        raise SettingError(f"--maps {maps.value} needs a folder to write to; give --out DIR")
    loaded = Model.load(model, engine)
    failed = 0
    with bars() as progress:
        predictions = loaded.predict(list(sources), progress)
        if out_folder is not None:
            predictions = write_results(loaded, predictions, out_folder, (maps or Maps.png).value, force=force)
        for prediction in predictions:
            failed += prediction.error is not None
            if as_json:
                print_json(prediction.as_dict())
            else:
                print_prediction(prediction)
            del prediction  # maps of large photographs take room
    if failed:
        raise typer.Exit(SOME_FAILED)


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(help="What fit wrote.")],
    source: Annotated[str, typer.Argument(help="A tree with labels, or layout:PATH.")],
    report: Annotated[Path | None, typer.Option(help="Write a self-contained page, FILE.html.")] = None,
    engine: EngineName = "auto",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Figures on labelled images. Status 3 if some could not be read.

    Example: [bold]blemish evaluate cells.blemish bottle --report bottle.html[/bold]
    """
    import blemish
    from blemish.datasets import read_source
    from blemish.model import Model

    _check_report(report, force)
    loaded = Model.load(model, engine)
    dataset = read_source(source, loaded.recipe.seed)
    err.print(escape(str(dataset)))
    with bars() as progress:
        evaluation = blemish.evaluate(loaded, dataset, progress)
    _finish_evaluation(loaded, evaluation, report, as_json)


@app.command()
def explain(
    model: Annotated[Path, typer.Argument(help="What fit wrote.")],
    sources: Annotated[list[str] | None, typer.Argument(help="Images or folders.")] = None,
    components: Annotated[
        str | None, typer.Option(help="How many; best, worst; or indices such as 3,17. 12 by default.")
    ] = None,
    scale: Annotated[str, typer.Option(help="fixed, per-component, cross-component or score.")] = "fixed",
    figures: Annotated[str | None, typer.Option(help="SOURCE with masks: the paper's figures, into --out.")] = None,
    gallery: Annotated[str | None, typer.Option(help="SOURCE: a page of every component, into --out.")] = None,
    diagnoses: Annotated[str | None, typer.Option(help="SOURCE: a table of the components.")] = None,
    images: Annotated[int, typer.Option(help="Images in figures and gallery.", min=1)] = 4,
    out_folder: Annotated[Path | None, typer.Option("--out", help="A new folder for pictures.")] = None,
    engine: EngineName = "auto",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Show why images have their scores, or what a model's components are like.

    Example: [bold]blemish explain cells.blemish cells/new/0017.png --out why[/bold]
    """
    from blemish.model import Model

    ways = [bool(sources), figures is not None, gallery is not None, diagnoses is not None]
    if sum(ways) != 1:
        raise SettingError("say what to explain: images, or one of --figures, --gallery and --diagnoses with a SOURCE")
    if (figures or gallery) and out_folder is None:
        raise SettingError("figures and galleries need a folder to write to; give --out DIR")
    loaded = Model.load(model, engine)
    if sources:
        _explain_images(loaded, sources, _components(components), scale, out_folder, force, as_json)
    else:
        _explain_model(loaded, figures, gallery, diagnoses, images, out_folder, force, as_json)


def _explain_images(
    model: Model,
    sources: list[str],
    components: int | str | list[int] | None,
    scale: str,
    out_folder: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    from blemish.datasets import read_source
    from blemish.report import write_explanations

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
                err.print(f"[red]error:[/red] {escape(str(error))}")
            progress("explain", done + 1, len(paths))

    with bars() as progress:
        explanations = explained()
        if out_folder is not None:
            explanations = write_explanations(explanations, out_folder, scale, force=force)
        for explanation in explanations:
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
    out_folder: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    from blemish.datasets import read_source
    from blemish.explain import diagnose, write_figures, write_gallery

    dataset = read_source(figures or gallery or diagnoses or "", model.recipe.seed)
    err.print(escape(str(dataset)))
    with bars() as progress:
        if figures is not None and out_folder is not None:
            names = write_figures(model, dataset, out_folder, images=images, force=force, progress=progress)
            out.print("\n".join(escape(str(out_folder / name)) for name in names))
        elif gallery is not None and out_folder is not None:
            write_gallery(model, dataset, out_folder, images=images, force=force, progress=progress)
            out.print(f"gallery: {escape(str(out_folder / 'index.html'))}")
        else:
            labelled = dataset.test if dataset.has_masks else []
            rows = diagnose(model, dataset.train, labelled, progress)
            if as_json:
                for row in rows:
                    print_json(asdict(row))
            else:
                print_diagnoses(rows)


@app.command()
def sample(
    model: Annotated[Path, typer.Argument(help="What fit wrote, of detector vae or vae-grf.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The picture, FILE.png.")],
    count: Annotated[int, typer.Option("-n", help="How many.", min=1, max=256)] = 16,
    seed: Annotated[int, typer.Option(help="Of the draw.", min=0)] = 0,
    force: Force = False,
) -> None:
    """Draw images from the prior of a VAE: what it takes for normal.

    Example: [bold]blemish sample fields.blemish -n 16 -o grid.png[/bold]
    """
    from blemish.model import Model
    from blemish.report import write_grid

    _check_report(output, force)
    write_grid(Model.load(model).sample(count, seed), output)
    out.print(f"saved to {escape(str(output))}")


@app.command()
def prune(
    model: Annotated[Path, typer.Argument(help="What fit wrote, of detector gaussian.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the pruned model goes, a new folder.")],
    source: Annotated[str | None, typer.Argument(help="The data it was fitted on, if it has moved.")] = None,
    drop_border: Annotated[
        float | None, typer.Option(help="Leave out components so many times larger on the border of normal images.")
    ] = None,
    keep_best: Annotated[
        int | None, typer.Option(help="Keep so many of each layer, by AUROC on the labelled images.")
    ] = None,
    drop: Annotated[str | None, typer.Option(help="Leave out these: 3,17 or, of several layers, 2:3,3:17.")] = None,
    engine: EngineName = "auto",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Leave components out of a gaussian model, and show figures before and after.

    Example: [bold]blemish prune cells.blemish --drop-border 2.0 -o pruned.blemish[/bold]
    """
    from blemish.explain import prune as pruned
    from blemish.model import Model
    from blemish.storage import check_free

    check_free(output, force=force)
    loaded = Model.load(model, engine)
    names = None if drop is None else [name.strip() for name in drop.split(",") if name.strip()]
    with bars() as progress:
        result = pruned(loaded, source, border=drop_border, keep_best=keep_best, drop=names, progress=progress)
    result.model.save(output, force=force)
    if as_json:
        figures = [None if found is None else found.as_dict() for found in (result.before, result.after)]
        print_json({"model": str(output), "dropped": result.dropped, "before": figures[0], "after": figures[1]})
    else:
        print_pruning(result, output)


@app.command()
def check(
    source: Annotated[str, typer.Argument(help="Folder, tree, or layout:PATH.")],
    as_json: Json = False,
) -> None:
    """List what is wrong with a data set, each with its mend. Status 1 if anything is.

    Example: [bold]blemish check bottle[/bold]
    """
    from blemish.check import check_source

    with bars() as progress:
        dataset, findings = check_source(source, progress)
    if as_json:
        print_json({"source": str(dataset), "findings": [finding.as_dict() for finding in findings]})
    else:
        out.print(escape(str(dataset)))
        for finding in findings:
            out.print(f"[yellow]{escape(finding.where)}[/yellow]: {escape(finding.what)}; {escape(finding.mend)}")
        out.print(f"{len(findings)} to mend" if findings else "nothing is wrong")
    if any(finding.stops_fit for finding in findings):
        raise typer.Exit(1)


@app.command()
def demo(
    report: Annotated[Path, typer.Option(help="Where the page goes.")] = Path("report.html"),
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Fit FRE on good monocrystalline solar cells at 5 % false alarms, evaluate on the rest, write a report.

    Example: [bold]blemish demo[/bold]
    """
    import blemish
    from blemish.datasets import read_source

    _check_report(report, force)
    dataset = read_source("elpv:mono")
    err.print(escape(str(dataset)))
    with bars() as progress:
        model = blemish.fit(dataset, detector="fre", false_alarm_rate=0.05, progress=progress)
        evaluation = blemish.evaluate(model, dataset, progress)
    _finish_evaluation(model, evaluation, report, as_json)


def run() -> NoReturn:
    """The entry point: `main`, and then out at once.

    Python would first take torch apart piece by piece, for longer than some commands take; what matters is done before.
    """
    try:
        main()
    except SystemExit as done:
        status = done.code
    with suppress(BrokenPipeError):
        sys.stdout.flush()
        sys.stderr.flush()
    atexit._run_exitfuncs()  # which remove temporary folders
    os._exit(status if isinstance(status, int) else 0)


def main() -> NoReturn:
    """What a user did wrong becomes one line and status 1, unless `--debug` is among the words."""
    words = [word for word in sys.argv[1:] if word != "--debug"]
    debug = len(words) < len(sys.argv) - 1
    try:
        status = app(words, standalone_mode=False) or 0
        if status == INTERRUPTED:  # how the parser hands on Ctrl-C
            raise KeyboardInterrupt
        sys.exit(status)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (Exception, KeyboardInterrupt) as error:
        if debug:
            raise
        try:
            err.print(f"[red]error:[/red] {escape(_one_line(error))}")
        except MemoryError:  # not even enough to print in colour
            os.write(2, f"error: {OUT_OF_MEMORY}\n".encode())
        sys.exit(_status(error))


def _one_line(error: BaseException) -> str:
    if isinstance(error, (KeyboardInterrupt, typer.Abort)):
        return "interrupted; nothing half-written was left"
    if isinstance(error, BlemishError):
        text = str(error)
    elif hasattr(error, "format_message"):  # the parser's own, for words it does not know
        text = f"{error.format_message()} See blemish --help"
    elif isinstance(error, ModuleNotFoundError):
        text = f"{error.name} is not installed; pip install 'blemish[fit,report]'"
    elif is_out_of_memory(error):
        text = OUT_OF_MEMORY
    else:
        text = f"{type(error).__name__}: {error} (a fault of blemish's; --debug shows where)"
    return " ".join(text.split())


def _status(error: BaseException) -> int:
    if isinstance(error, (KeyboardInterrupt, typer.Abort)):
        return INTERRUPTED
    return int(getattr(error, "exit_code", 1))


def _layers(text: str | None) -> list[int | str] | None:
    """`2,3,4` or `layer1,layer2`; the backbone says which there are."""
    if text is None:
        return None
    names = [name.strip() for name in text.split(",") if name.strip()]
    return [int(name) if name.isdecimal() else name for name in names]


def _settings(texts: list[str]) -> dict[str, Any]:
    """`NAME=VALUE`, the value as JSON has it, or text."""
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name.strip() and equals):
            raise SettingError(f"--set {text!r} is no setting; give NAME=VALUE")
        try:
            found[name.strip()] = json.loads(value)
        except ValueError:
            found[name.strip()] = value
    return found


def _components(text: str | None) -> int | str | list[int] | None:
    """`12`, `best`, `worst`, or indices; one index alone is given with a comma behind it."""
    if text is None or not text.replace(",", "").replace(" ", "").isdecimal():
        return text
    numbers = [int(number) for number in text.split(",") if number.strip()]
    return numbers if "," in text else numbers[0]


def _check_report(report: Path | None, force: bool) -> None:
    if report is not None and report.exists() and not force:
        raise ModelError(f"{report}: exists already; give another path, or replace it with --force")


def _finish_evaluation(model: Model, evaluation: Evaluation, report: Path | None, as_json: bool) -> None:
    if report is not None:
        from blemish.report import write_report

        write_report(model, evaluation, report)
    for prediction in evaluation.unreadable:
        print_prediction(prediction)
    if as_json:
        print_json(evaluation.as_dict())
    else:
        print_evaluation(evaluation)
        if report is not None:
            out.print(f"report: {escape(str(report))}")
    if evaluation.unreadable:
        raise typer.Exit(SOME_FAILED)
