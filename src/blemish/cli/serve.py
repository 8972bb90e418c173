"""`blemish serve`: verdicts over HTTP, and the page for the production line."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from blemish.cli.console import err, escape, problem
from blemish.cli.needs import needs
from blemish.cli.options import DeviceName, EngineName
from blemish.errors import SettingError


def serve(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL...", help="Model folders that fit wrote, or NAME=PATH.")
    ],
    host: Annotated[
        str, typer.Option(help="Address to listen on; one that other machines reach needs a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes any free one.")] = 8420,
    name: Annotated[
        list[str] | None, typer.Option(help="Another host name for this service, such as a proxy's; may be repeated.")
    ] = None,
    token_file: Annotated[Path | None, typer.Option(help="A file with the token that requests must show.")] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="A certificate as PEM, for HTTPS.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="The certificate's key as PEM.")] = None,
    max_bytes: Annotated[int, typer.Option(help="Bytes of one request, at most.")] = 64 << 20,
    max_pixels: Annotated[int, typer.Option(help="Pixels of one image, at most.")] = 64_000_000,
    queue: Annotated[int, typer.Option(help="Images that may wait for their verdict.")] = 256,
    timeout: Annotated[
        float, typer.Option(help="Seconds to wait for a request's body, and again for its verdict.")
    ] = 30.0,
    state: Annotated[Path, typer.Option(help="Folder for the log, copies of models, and images.")] = Path(
        "blemish-service"
    ),
    log: Annotated[
        str | None, typer.Option(help="sqlite:///PATH or postgresql://…; by default a file in --state.")
    ] = None,
    keep: Annotated[str, typer.Option(help="Images to keep on disk: none, anomalous or all.")] = "none",
    keep_days: Annotated[float, typer.Option(help="Days to keep images.")] = 30.0,
    keep_bytes: Annotated[int, typer.Option(help="Bytes of kept images, at most; the oldest are deleted.")] = 10 << 30,
    shadow: Annotated[
        list[str] | None,
        typer.Option(help="NAME=MODEL: MODEL also scores the images of NAME, but does not decide; may be repeated."),
    ] = None,
    engine: EngineName = "auto",
    device: DeviceName = "auto",
) -> None:
    """Answer over HTTP, with a page for the production line. Ctrl-C or SIGTERM ends it once all is answered.

    Example: [bold]blemish serve cells.blemish[/bold]
    """
    needs("serve", *models, log if log and log.startswith("postgresql") else None, serve=True)
    from blemish.service.serve import serve as run
    from blemish.service.service import Service
    from blemish.service.settings import Settings, read_token

    settings = Settings(
        host=host,
        port=port,
        names=tuple(name or ()),
        token=None if token_file is None else read_token(token_file),
        certificate=tls_cert,
        key=tls_key,
        most_bytes=max_bytes,
        most_pixels=max_pixels,
        queue=queue,
        timeout=timeout,
        state=state,
        log=log,
        keep=keep,  # type: ignore[arg-type]  # it is checked there
        keep_days=keep_days,
        keep_bytes=keep_bytes,
        engine=engine,
        device=device,
    )

    def on_start(service: Service, address: str) -> None:
        with suppress(OSError):  # a full disk cannot take the output; the service runs nevertheless
            for served in service.models.all():
                role = "" if served.name in service.models.served else ", a shadow"
                err.print(f"{escape(served.name)}: {served.details['detector']}, version {served.version}{role}")
                if served.problem is not None:
                    problem(f"[yellow]warning:[/yellow] {escape(served.name)}: {escape(served.problem)}")
            err.print(f"serving at {escape(address)}; Ctrl-C ends it")

    run(settings, _named(models), _shadows(shadow or []), on_start)


def _named(models: list[str]) -> dict[str, str]:
    from blemish.service.versions import named

    found: dict[str, str] = {}
    for given in models:
        name, source = named(given)
        if name in found:
            raise SettingError(f"two models are called {name!r}; give one of them another name: NAME={source}")
        found[name] = source
    return found


def _shadows(shadows: list[str]) -> dict[str, tuple[str, str]]:
    from blemish.service.versions import named

    found: dict[str, tuple[str, str]] = {}
    for given in shadows:
        decides, equals, source = given.partition("=")
        if not (decides and equals and source):
            raise SettingError(f"--shadow {given} names no model; give NAME=MODEL, with the NAME of one that is served")
        if decides in found:
            raise SettingError(f"{decides!r} has two shadows; give one")
        found[decides] = named(source)
    return found
