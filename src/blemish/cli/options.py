"""Options that several commands share, and how they are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from blemish.errors import SettingError

SOME_FAILED = 3
"""Exit status if some images could not be read."""

LONGEST = 10
"""Digits of a layer's number, at most; longer ones are names that no network has."""

Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]
FalseAlarmRate = Annotated[
    float | None, typer.Option(help="Share of good images that may raise an alarm; by default the model's.")
]
Threshold = Annotated[float | None, typer.Option(help="Scores above it are anomalous, in place of a rate.")]
BoxRate = Annotated[
    float | None, typer.Option(help="Share of good images that may show a box; by default the model's.")
]
EngineName = Annotated[str, typer.Option("--engine", help="auto, openvino or torch.")]


def parse_layers(text: str | None) -> list[int | str] | None:
    """Reads `2,3,4` or `layer1,layer2`; the backbone checks them."""
    if text is None:
        return None
    names = [name.strip() for name in text.split(",") if name.strip()]
    return [int(name) if name.isdecimal() and len(name) < LONGEST else name for name in names]


def parse_settings(texts: list[str]) -> dict[str, Any]:
    """Reads `NAME=VALUE`s; a value that is not JSON is text."""
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name.strip() and equals):
            raise SettingError(f"--set {text!r} is not a setting; give NAME=VALUE")
        try:
            found[name.strip()] = json.loads(value)
        except ValueError:
            found[name.strip()] = value
    return found


def check_report(report: Path | None, force: bool) -> None:
    """Raises `StorageError` if a report cannot be written there, before the work starts."""
    from blemish.storage import check_free_file

    if report is not None:
        check_free_file(report, force=force)
