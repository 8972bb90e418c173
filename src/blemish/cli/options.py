"""Options that several commands share, and how they are read."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from blemish.errors import SettingError
from blemish.expected import shown

SOME_FAILED = 3
"""Exit status if some images could not be read."""

LONGEST_NAME = 200
"""Characters of a layer's name, at most."""

LONGEST = 10
"""Digits of a layer's number, at most; a longer number is read as a name."""

Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]
FalseAlarmRate = Annotated[
    float | None, typer.Option(help="Share of good images that may raise an alarm; by default the model's.")
]
Threshold = Annotated[float | None, typer.Option(help="Scores above this are anomalous; give it instead of a rate.")]
BoxRate = Annotated[
    float | None, typer.Option(help="Share of good images that may show a box; by default the model's.")
]
EngineName = Annotated[str, typer.Option("--engine", help="auto, openvino or torch.")]


def _checked(device: str) -> str:
    """Returns the device. Raises an error, before any work, if this machine does not have it."""
    from blemish.engines import check_device

    check_device(device)
    return device


DeviceName = Annotated[
    str,
    typer.Option(
        "--device",
        callback=_checked,
        help="auto, cpu, cuda, cuda:1 or mps (torch); gpu, gpu:1 or npu (OpenVINO).",
    ),
]


def parse_layers(text: str | None) -> list[int | str] | None:
    """Reads `2,3,4` or `layer1,layer2`; the backbone checks them. Raises `SettingError` if a name is too long."""
    if text is None:
        return None
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if len(name) > LONGEST_NAME:
            raise SettingError(f"--layers names {shown(name)}; expected levels such as 2,3,4, or names of modules")
    return [int(name) if name.isdecimal() and len(name) < LONGEST else name for name in names]


def parse_settings(texts: list[str]) -> dict[str, Any]:
    """Reads `NAME=VALUE`s; a value that is not JSON is text."""
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name.strip() and equals):
            raise SettingError(f"--set {shown(text)} is not a setting; give NAME=VALUE")
        try:
            found[name.strip()] = json.loads(value)
        except (ValueError, RecursionError):
            found[name.strip()] = value
    return found
