"""Writes evaluations and explanations as files: lines of JSON or CSV, and one picture for each image."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.evaluation import Evaluation
from blemish.explanation import Explanation
from blemish.images import Location
from blemish.log import guarded
from blemish.maps import Panel, sheet, write_picture
from blemish.storage import new_file, new_folder

EXPLANATIONS = "explanations.jsonl"


def write_image_figures(named: Sequence[tuple[str, Evaluation]], path: Path, *, force: bool = False) -> None:
    """Writes one line of CSV for each image of each model's evaluation, in order; an undefined figure is empty.

    Args:
        named: names of models and their evaluations; the name is the last value of a line.
        path: of the file.
        force: replace what is there.

    Raises:
        StorageError: the file exists and may not be replaced, or cannot be written.
    """
    with (
        new_file(path, force=force, has_mark=False) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("name", "class", "score", "p_value", "is_anomaly", "pixel_auroc", "aupimo", "model"))
        for model, evaluation in named:
            for (sample, found), own in zip(evaluation.results, evaluation.per_image.rows(), strict=True):
                verdict = (found.score, found.p_value, str(found.is_anomaly).lower())
                figures = (own["pixel_auroc"], own["aupimo"])
                writer.writerow((guarded(own["name"]), guarded(sample.kind), *verdict, *figures, guarded(model)))


def write_explanations(
    explanations: Iterable[Explanation], folder: str | Path, scale: str = "fixed", *, force: bool = False
) -> Iterator[Explanation]:
    """Yields the explanations and writes each: a line of `explanations.jsonl`, and a picture.

    Args:
        explanations: of files.
        folder: new, or with `force` one that this function wrote; it is written after the last one, or not at all.
        scale: as in `Explanation.picture`.

    Raises:
        StorageError: the folder exists and may not be replaced, or cannot be written.
        SettingError: the scale is not known.
    """
    taken: set[str] = set()
    with (
        new_folder(folder, "explanations", force=force) as temporary,
        (temporary / EXPLANATIONS).open("w", encoding="utf-8") as lines,
    ):
        for explanation in explanations:
            name = _free_name(explanation.path or Path("image"), "_why.png", taken)
            Image.fromarray(explanation.picture(scale)).save(temporary / name)
            lines.write(json.dumps({**explanation.as_dict(), "picture": name}, allow_nan=False) + "\n")
            yield explanation


def write_grid(images: NDArray[np.uint8], path: Path, *, force: bool = False) -> None:
    """Writes images (n, H, W, 3) as one picture, in about as many rows as columns.

    Raises:
        SettingError: the suffix is not that of a picture.
        StorageError: it exists and may not be replaced, or cannot be written.
    """
    columns = math.ceil(len(images) ** 0.5)
    panels = [Panel(image) for image in images]
    rows = [panels[start : start + columns] for start in range(0, len(panels), columns)]
    write_picture(sheet(rows, side=math.sqrt(images.shape[1] * images.shape[2])), path, force=force)


def _free_name(path: Location, ending: str, taken: set[str]) -> str:
    """Returns a file name from the image's; numbered if several images have the same name."""
    name = path.stem + ending
    number = 2
    while name.lower() in taken:
        name = f"{path.stem}_{number}{ending}"
        number += 1
    taken.add(name.lower())
    return name
