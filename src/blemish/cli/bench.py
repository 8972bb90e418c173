"""`blemish bench`: runs the papers' protocols, and prints their tables beside the published figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from blemish.cli.console import bars, err, escape, out, print_json
from blemish.cli.needs import needs
from blemish.cli.options import SOME_FAILED, DeviceName, EngineName, Force, Json, parse_settings
from blemish.errors import SettingError, number_of

if TYPE_CHECKING:
    from blemish.bench.protocol import Protocol
    from blemish.bench.results import Result

Name = Annotated[str, typer.Argument(help="The protocol; `blemish bench list` shows them.")]
Results = Annotated[Path, typer.Argument(help="A file that run wrote.")]


def list_protocols(as_json: Json = False) -> None:
    """List the protocols: each is a table or a figure of a paper.

    Example: [bold]blemish bench list[/bold]
    """
    needs("bench", fit=True)
    from blemish.bench.names import PROTOCOLS

    if as_json:
        for protocol in PROTOCOLS.values():
            entries = [entry.name for entry in protocol.entries]
            print_json({"name": protocol.name, "title": protocol.title, "data": protocol.data, "entries": entries})
        return
    table = Table(box=None, pad_edge=False)
    for column in ("name", "what", "data"):
        table.add_column(column, no_wrap=column == "name")
    for protocol in PROTOCOLS.values():
        table.add_row(protocol.name, escape(protocol.title), escape(protocol.data))
    out.print(table)


def run(
    name: Annotated[str, typer.Argument(help="The protocol, or smoke: all of them, on a few made-up images.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Results, FILE.jsonl; a run continues from what the file has.")
    ],
    data: Annotated[
        str | None, typer.Option("--data", help="Folder with the categories, or a single data set.")
    ] = None,
    category: Annotated[list[str] | None, typer.Option(help="Only this category; may be repeated.")] = None,
    entry: Annotated[list[str] | None, typer.Option(help="Only this row of the table; may be repeated.")] = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            help="How many seeds, for rows that use random numbers; by default as in the paper.", min=1, max=10_000
        ),
    ] = None,
    preset: Annotated[str | None, typer.Option(help="Fit this preset instead of the paper's rows.")] = None,
    detector: Annotated[
        str | None, typer.Option(help="Fit this detector with its own settings instead of the paper's rows.")
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(help="Use this network instead of the paper's, with layers of the same strides.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="NAME=VALUE, for rows whose detector has this setting; may be repeated."),
    ] = None,
    size: Annotated[int | None, typer.Option(help="Pixels, instead of the paper's size.", min=32, max=4096)] = None,
    images: Annotated[
        int | None, typer.Option(help="Training images, at most; all by default.", min=2, max=1_000_000_000)
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="A file with the weights, or a folder with NETWORK.safetensors for each.")
    ] = None,
    download: Annotated[bool, typer.Option("--download", help="Let timm fetch the weights.")] = False,
    models: Annotated[Path | None, typer.Option(help="A folder to keep the models in; figures need them.")] = None,
    engine: EngineName = "auto",
    device: DeviceName = "auto",
    as_json: Json = False,
) -> None:
    """Run a protocol: fit and measure each row on each category, one line of results each.

    Example: [bold]blemish bench run padim-table-1 --data mvtec --download -o results.jsonl[/bold]
    """
    needs("bench", fit=True)
    from blemish.bench.names import find_protocol
    from blemish.bench.options import Options
    from blemish.bench.rows import make_table
    from blemish.bench.run import run as run_protocol
    from blemish.bench.smoke import SMOKE

    if name == SMOKE:
        _smoke(output)
        return
    protocol = find_protocol(name)
    if data is None:
        raise SettingError(f"{name} is measured on {protocol.data}; give the folder with --data ROOT")
    options = Options(
        category or (),
        entry or (),
        seeds,
        preset,
        backbone,
        weights,
        download,
        images,
        size,
        parse_settings(settings or []),
        engine,
        models,
        detector,
        device,
    )
    with bars() as progress:
        announced = Announcer(protocol)
        results = run_protocol(protocol, data, output, options, progress=progress, announce=announced)
    if as_json:
        for result in results:
            print_json({"entry": result.entry, "category": result.category, "seed": result.seed, **_told(result)})
    else:
        out.print(_lines(make_table(protocol, results).written("markdown")), soft_wrap=True)
    if announced.absent:
        raise typer.Exit(SOME_FAILED)


def table(
    name: Name,
    results: Results,
    form: Annotated[str, typer.Option("--format", help="markdown, csv or latex.")] = "markdown",
    intervals: Annotated[bool, typer.Option("--intervals", help="Show the 95 % interval of each figure.")] = False,
    differences: Annotated[
        bool,
        typer.Option("--differences", help="How rows differ from the main one on the same images, with intervals."),
    ] = False,
) -> None:
    """Print a protocol's table; what was not measured is a dash.

    Example: [bold]blemish bench table padim-table-1 results.jsonl --format latex[/bold]
    """
    needs("bench", fit=True)
    from blemish.bench.differences import make_differences
    from blemish.bench.names import find_protocol
    from blemish.bench.results import check_complete, read_results
    from blemish.bench.rows import make_list, make_table

    protocol = find_protocol(name)
    found = read_results(results, name)
    check_complete(found, results, name)
    if differences:
        made = make_differences(protocol, found)
    else:
        made = make_list(protocol, found) if form == "csv" else make_table(protocol, found, intervals=intervals)
    out.print(_lines(made.written(form)), soft_wrap=True, end="")


def figure(
    name: Name,
    results: Results,
    out_folder: Annotated[str, typer.Option("--out", help="Where the pictures go, a new folder.")],
    category: Annotated[list[str] | None, typer.Option(help="Only this category; may be repeated.")] = None,
    entry: Annotated[list[str] | None, typer.Option(help="Only this row; may be repeated.")] = None,
    pick: Annotated[str | None, typer.Option(help="Numbers of test images, such as 33,46,66.")] = None,
    components: Annotated[
        str | None, typer.Option(help="Components to show, such as 55,62; by AUROC otherwise.")
    ] = None,
    force: Force = False,
) -> None:
    """Draw a protocol's figure from its results and from the models that run --models kept.

    Example: [bold]blemish bench figure mvg-figures results.jsonl --pick 33,46,66 --out figures[/bold]
    """
    needs("bench", fit=True)
    from blemish.bench.names import find_protocol
    from blemish.bench.protocol import Drawing
    from blemish.bench.results import check_complete, read_results
    from blemish.storage import new_folder

    protocol = find_protocol(name)
    if protocol.draw is None:
        raise SettingError(f"{name} is a table; give `blemish bench table {name} {results}`")
    found = read_results(results, name)
    check_complete(found, results, name, category or (), entry or ())
    found = [
        result
        for result in found
        if (not category or result.category in category) and (not entry or result.entry in entry)
    ]
    with new_folder(out_folder, "figures", force=force) as folder:
        names = protocol.draw(Drawing(found, folder, _numbers("pick", pick), _numbers("components", components)))
        if not names:
            raise SettingError(f"{results}: has nothing that the figure of {name} shows; see `blemish bench table`")
    out.print("\n".join(escape(f"{out_folder}/{picture}") for picture in names))


def _smoke(output: Path) -> None:
    from blemish.bench.smoke import smoke

    failed = 0
    with bars() as progress:
        for smoked in smoke(output, progress=progress, announce=Announcer(None)):
            pictures = number_of(smoked.pictures, "picture")
            out.print(f"{smoked.name}: {number_of(smoked.results, 'result')}, {pictures}")
            for fault in smoked.faults:
                err.print(f"[red]error:[/red] {escape(fault)}")
            failed += bool(smoked.faults)
    if failed:
        raise typer.Exit(1)


def _numbers(name: str, text: str | None) -> tuple[int, ...]:
    words = [word.strip() for word in (text or "").split(",") if word.strip()]
    if any(not word.isdecimal() or len(word) > 9 for word in words):
        raise SettingError(f"--{name} {text!r} is not a list of numbers; give one such as 33,46,66")
    return tuple(map(int, words))


class Announcer:
    """Prints what is measured next, and then its figures.

    Attributes:
        absent: reasons why rows could not be measured, each printed once.
    """

    def __init__(self, protocol: Protocol | None) -> None:
        self.figures = () if protocol is None else protocol.figures
        self.absent: set[str] = set()

    def __call__(self, what: Result | str) -> None:
        if isinstance(what, str):
            err.print(escape(what))
        elif what.absent is not None:
            reason = "the same reason" if what.absent in self.absent else what.absent
            err.print(f"  [yellow]absent:[/yellow] {escape(reason)}")
            self.absent.add(what.absent)
        else:
            found = [(shown, what.figures.get(shown.key)) for shown in self.figures]
            told = [
                f"{shown.title} {100 * value:.2f} %" if shown.unit == "%" else f"{shown.title} {value:.2f} {shown.unit}"
                for shown, value in found
                if isinstance(value, (int, float))
            ]
            err.print("  " + escape(", ".join([*told, f"{sum(what.seconds.values()):.1f} s"])))


def _lines(text: str) -> str:
    """Returns a text of several lines, each spelt so that names in it cannot act on a terminal."""
    return "\n".join(map(escape, text.split("\n")))


def _told(result: Result) -> dict[str, object]:
    return {"absent": result.absent} if result.absent else {"figures": result.figures, "seconds": result.seconds}
