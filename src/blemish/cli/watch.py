"""`blemish watch`: judges images as they come."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from blemish.cli.console import err, escape, ignore_closed_output, out, print_json, threshold_line
from blemish.cli.needs import needs
from blemish.cli.options import SOME_FAILED, BoxRate, DeviceName, EngineName, FalseAlarmRate, Json, Threshold
from blemish.errors import SettingError, number_of
from blemish.interrupts import Interrupted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blemish.watching import Result
    from blemish.watching.live import LiveModel
    from blemish.watching.record import Which


class Maps(str, Enum):
    none = "none"
    anomalous = "anomalous"
    png = "png"


class Keep(str, Enum):
    none = "none"
    anomalous = "anomalous"
    all = "all"


class Watching(Protocol):
    @property
    def live(self) -> LiveModel: ...
    @property
    def counts(self) -> Mapping[str, int]: ...
    def run(self, *, once: bool = False) -> Iterator[Result]: ...


def watch(
    model: Annotated[str, typer.Argument(help="A model, the folder that fit wrote.")],
    source: Annotated[str, typer.Argument(help="A folder; or camera:0, rtsp://…")],
    outs: Annotated[
        list[str] | None,
        typer.Option("--out", help="A folder, or a database: sqlite:///PATH, postgresql://… May be given twice."),
    ] = None,
    maps: Annotated[
        Maps | None,
        typer.Option(help="With --out DIR: heat maps of none, of anomalous images (default), or of all: png."),
    ] = None,
    move: Annotated[
        str | None,
        typer.Option(help="Move files by verdict: good=DIR,anomalous=DIR,unreadable=DIR, or only some of these."),
    ] = None,
    poll: Annotated[
        float | None, typer.Option(help="Look through the folder every POLL seconds; for network drives.")
    ] = None,
    patience: Annotated[
        float | None, typer.Option(help="Seconds to wait for a file that cannot be read yet; 5 by default.")
    ] = None,
    every: Annotated[float | None, typer.Option(help="For a camera: seconds between frames; 1 by default.")] = None,
    keep: Annotated[
        Keep | None, typer.Option(help="For a camera, with --out DIR: which frames to keep; none by default.")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="End when no file is left, or after one frame.")] = False,
    false_alarm_rate: FalseAlarmRate = None,
    threshold: Threshold = None,
    box_rate: BoxRate = None,
    engine: EngineName = "auto",
    device: DeviceName = "auto",
    as_json: Json = False,
) -> None:
    """Score the images of a folder or a camera as they come. With --once, exit status 3 if some could not be read.

    Example: [bold]blemish watch cells.blemish line --out watched --move good=good,anomalous=anomalous[/bold]
    """
    from blemish.watching import is_camera, parse_moves, watching, watching_camera

    needs("watch", model, *(out for out in outs or () if out.startswith(("sqlite:", "postgresql"))))
    rates = {"false_alarm_rate": false_alarm_rate, "threshold": threshold, "box_rate": box_rate}
    which: Which = "all" if maps == Maps.png else "anomalous" if maps is None else maps.value
    opened: AbstractContextManager[Watching]
    if is_camera(source):
        for name, value in (("--move", move), ("--poll", poll), ("--patience", patience)):
            if value is not None:
                raise SettingError(f"{name} is for folders; leave it out for a camera")
        opened = watching_camera(
            model,
            source,
            outs=outs or (),
            maps=which,
            keep="none" if keep is None else keep.value,
            every=1.0 if every is None else every,
            rates=rates,
            engine=engine,
            device=device,
            say=_say,
        )
    else:
        for name, given in (("--every", every), ("--keep", keep)):
            if given is not None:
                raise SettingError(f"{name} is for cameras; leave it out for a folder")
        opened = watching(
            model,
            source,
            outs=outs or (),
            maps=which,
            move={} if move is None else parse_moves(move),
            poll=poll,
            **({} if patience is None else {"patience": patience}),
            rates=rates,
            engine=engine,
            device=device,
            say=_say,
        )
    with opened as watched:
        ended = _run(watched, once, as_json)
    if once and not ended and watched.counts["unreadable"]:
        raise typer.Exit(SOME_FAILED)


def _run(watched: Watching, once: bool, as_json: bool) -> bool:
    """Prints a line for each image and one at the end. Returns whether a signal ended it."""
    if not as_json:
        err.print(threshold_line(watched.live.current.model.calibration))
    start, ended = time.monotonic(), ""
    try:
        for result in watched.run(once=once):
            with ignore_closed_output():
                _print(result, as_json)
    except (KeyboardInterrupt, Interrupted) as interrupt:  # a watch usually ends so
        ended = "ended by SIGTERM: " if getattr(interrupt, "status", 0) == 143 else "ended: "
    counts = watched.counts
    total = number_of(sum(counts.values()), "image")
    err.print(
        f"{ended}{total} in {time.monotonic() - start:.0f} s: {counts['good']} good, {counts['anomalous']} anomalous, "
        f"{counts['unreadable']} unreadable"
    )
    return bool(ended)


def _print(result: Result, as_json: bool) -> None:
    from blemish.maps import counted

    if as_json:
        return print_json(result.as_dict())
    path = escape(result.path)
    if result.error is not None:
        out.print(f"[red]error[/red]      {path}: {escape(result.error)}")
        return None
    word = "[red]anomalous[/red]" if result.is_anomaly else "[green]good[/green]     "
    out.print(f"{word}  score {result.score:<7.6g}  p {result.p_value:.4f}  {counted(result.boxes):>8}  {path}")
    return None


def _say(line: str) -> None:
    err.print(escape(line))
