"""The models that a run kept, for figures that are drawn from them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from blemish.bench.protocol import Drawing
from blemish.bench.results import Result
from blemish.datasets import Dataset, read_source
from blemish.errors import SettingError
from blemish.model import Model

LONGEST = 200
"""Bytes of a picture's name, without its ending."""


def free(drawing: Drawing, *words: str, ending: str = ".png") -> Path:
    """Returns a free path for a picture, `first-second.png`; characters that file names do not allow are replaced."""
    plain = "".join(letter if letter.isalnum() or letter in "_." else "-" for letter in "-".join(words))
    name = plain.encode(errors="ignore")[:LONGEST].decode(errors="ignore").lstrip(".")
    number = 1
    while (place := drawing.folder / f"{name}{'' if number == 1 else f'-{number}'}{ending}").exists():
        number += 1
    return place


def kept_models(drawing: Drawing) -> Iterator[tuple[Result, Model, Dataset]]:
    """Yields each result of the first seed whose model was kept, with that model and its data set.

    Raises:
        SettingError: no model was kept.
        ModelError: a model is no longer there.
        SourceError: its images are no longer there.
    """
    kept = [result for result in drawing.results if result.model is not None and result.seed == 0]
    if not kept:
        name = drawing.results[0].protocol
        raise SettingError(f"this figure needs the models; run `blemish bench run {name}` again with --models FOLDER")
    for result in kept:
        yield result, Model.load(result.model or ""), read_source(result.data.get("source") or "", 0)
