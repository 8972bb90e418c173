"""Checks the optional packages that a command needs, before any work."""

from __future__ import annotations

from blemish.errors import lacking, require

EXTRAS = {
    "fit": ("torch", "torchvision", "timm", "scipy", "psutil", "lightning_fabric", "platformdirs"),
    "report": ("jinja2",),
    "serve": ("fastapi", "uvicorn", "httptools", "python_multipart", "prometheus_client", "sqlalchemy"),
    "ray": ("ray", "pyarrow", "fsspec"),
    "demo": ("elpv_dataset",),
}
"""Extras and the modules that they install, as commands need them."""


def needs(
    of: str,
    *places: str | None,
    fit: bool = False,
    torch: bool = False,
    scipy: bool = False,
    report: bool = False,
    serve: bool = False,
    ray: bool = False,
    parquet: bool = False,
) -> None:
    """Raises `MissingExtraError` if packages that a command needs are not installed, for all of them at once.

    Args:
        of: the command, such as `fit`; the message begins with it.
        places: sources and outputs. Some need packages of their own: an address (`s3://bucket/folder`), a database
            (`sqlite:///verdicts.sqlite`), and `elpv`.
        fit: whether it fits.
        torch: whether it needs torch, but no other package of a fit.
        scipy: whether it needs scipy, but no other package of a page.
        report: whether it writes a page.
        serve: whether it answers over HTTP.
        ray: whether it runs on a cluster.
        parquet: whether it writes Parquet.
    """
    if torch:
        require("torch", of=of, extra="fit")
    if scipy:
        require("scipy", of=of, extra="report")
    if parquet:
        require("pyarrow", of="Parquet", extra="parquet")
    given = [place for place in places if place]
    elpv = any(place.partition(":")[0] == "elpv" for place in given)
    asked = [extra for extra, wanted in zip(EXTRAS, (fit, report, serve, ray, elpv), strict=True) if wanted]
    missing = [extra for extra in asked if lacking(*EXTRAS[extra])]
    require(*(module for extra in missing for module in EXTRAS[extra]), of=of, extra=",".join(missing))
    for place in given:
        _place(place)


def _place(place: str) -> None:
    """Raises `MissingExtraError` if a package for a database or an address is not installed."""
    if place.startswith("sqlite:"):
        require("sqlalchemy", of="the log", extra="serve")
    elif place.startswith("postgresql"):
        require("sqlalchemy", "psycopg", of="a log in PostgreSQL", extra="postgresql")
    elif "://" in place:
        from blemish.storage.remote import connect, is_remote

        for address in (place.partition(":")[2], place):  # without the name of a layout, and as it is
            if is_remote(address):
                connect(address)
                break


def extra_of(module: str) -> str:
    """Returns the extra that installs a module, or `all` if it is none of those above."""
    return next((extra for extra, modules in EXTRAS.items() if module in modules), "all")
