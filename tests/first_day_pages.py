"""The pages in `docs/first-day`, command by command, on real images; `benchmarks/first_days.py` takes the times."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

PAGES = Path(__file__).parents[1] / "docs" / "first-day"
BLOCK = re.compile(r"^```(python|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TILE = 256
"""The side of the tiles of Livestock, cut from photographs without overlap; they are named photograph_row_column."""

Truth = dict[str, Path | None]
"""The mask of each image, by its name; of a good one none."""


def commands(page: str) -> Iterator[tuple[str, str]]:
    """Yields `("python", code)` for each block of Python, and `("$", line)` for each line after a prompt."""
    for language, code in BLOCK.findall((PAGES / page).read_text(encoding="utf-8")):
        if language == "python":
            yield "python", code
        else:
            yield from (("$", line[2:]) for line in code.splitlines() if line.startswith("$ "))


def write_bottles(data: Path, folder: Path, good: int, new: int, more: int) -> Truth:
    """Writes the engineer's bottles, each folder's files numbered: good ones, new ones in any order, more good ones."""
    source = data / "mvtec" / "bottle"
    fine = sorted((source / "train" / "good").iterdir())
    groups = [sorted(group.iterdir()) for group in sorted((source / "test").iterdir())]
    mixed = [path for row in zip(*groups, strict=False) for path in row][:new]
    random.Random(0).shuffle(mixed)  # noqa: S311
    kinds = {"good": fine[:good], "more": fine[good : good + more], "later": fine[good + more :][:more], "new": mixed}
    for kind, paths in kinds.items():
        (folder / kind).mkdir(parents=True)
        for number, path in enumerate(paths):
            shutil.copyfile(path, folder / kind / f"{number:03d}{path.suffix}")
    shutil.copytree(folder / "new", folder.parent / "line")
    masks = {path: source / "ground_truth" / path.parent.name / f"{path.stem}_mask.png" for path in mixed}
    return {
        f"{number:03d}{path.suffix}": None if path.parent.name == "good" else masks[path]
        for number, path in enumerate(mixed)
    }


def write_photographs(data: Path, folder: Path, good: int, new: int, side: tuple[int, int] = (8, 15)) -> Truth:
    """Writes the biologist's photographs, put together again from the tiles that were cut from them.

    `ground` has pieces without animals, of 2×4 tiles, `flight` other photographs, `side` tiles high and wide, and
    `masks` what is in them.
    """
    tiles: dict[int, dict[tuple[int, int], Path]] = {}
    for path in (data / "livestock").glob("T*/*.jpg"):
        photograph, row, column = map(int, path.stem.split("_"))
        tiles.setdefault(photograph, {})[row, column] = path
    for name in ("ground", "flight", "masks"):
        (folder / name).mkdir()
    empty = []
    for name in sorted(name for name in tiles if 1000 < name < 1480):
        free = {place for place, path in tiles[name].items() if path.parent.name == "Train"}
        for row, column in _places(0, 0, 7, 12):
            if free.issuperset(piece := _places(row, column, 2, 4)):
                free.difference_update(piece)
                empty.append((name, row, column))
    for name, row, column in empty[:: max(len(empty) // good, 1)][:good]:
        picture = _joined(tiles[name], row, column, 2, 4, "RGB")
        picture.save(folder / "ground" / f"{name}-{row}-{column}.jpg", quality=92)
    truth: Truth = {}
    for name in (1500, 1800, 1740, 1620)[:new]:
        mask = folder / "masks" / f"{name}.png"
        _joined(tiles[name], 0, 0, *side, "RGB").save(folder / "flight" / f"{name}.jpg", quality=92)
        _joined(tiles[name], 0, 0, *side, "L").save(mask)
        truth[f"{name}.jpg"] = mask
    return truth


def _places(row: int, column: int, rows: int, columns: int) -> list[tuple[int, int]]:
    return [(y, x) for y in range(row, row + rows) for x in range(column, column + columns)]


def _joined(tiles: dict[tuple[int, int], Path], row: int, column: int, rows: int, columns: int, mode: str) -> Any:
    whole = Image.new(mode, (columns * TILE, rows * TILE))
    for y, x in _places(row, column, rows, columns):
        path = tiles[y, x]
        with Image.open(path if mode == "RGB" else path.with_name(f"{path.stem}_gt.png")) as tile:
            whole.paste(tile.convert(mode), ((x - column) * TILE, (y - row) * TILE))
    return whole


def review(page: Path, truth: Truth) -> Path:
    """Saves `review.json` as a person would who knows the truth, on the page that `predict --review` wrote.

    Boxes that miss are rejected, and where an anomaly has none, one is drawn around it.
    """
    head, rows = (_embedded(page.read_text(encoding="utf-8"), name) for name in ("head", "rows"))
    images = []
    for row in rows:
        mask = truth[Path(row["path"]).name]
        marks = [] if mask is None else _marks(mask)
        boxes = [
            {**_sides(box), "by": "model", "accepted": any(_meet(box, mark) for mark in marks)} for box in row["boxes"]
        ]
        missed = [mark for mark in marks if not any(_meet(box, mark) for box in row["boxes"])]
        boxes += [{**_sides(mark), "by": "person", "accepted": True} for mark in missed]
        image = {key: row[key] for key in ("path", "name", "size", "score")}
        said = {"model": "anomalous" if row["anomalous"] else "good", "verdict": "anomalous" if marks else "good"}
        images.append({**image, "p_value": row["p"], **said, "boxes": boxes})
    content = {
        "blemish_review": 1,
        "id": head["id"],
        "threshold": head["threshold"],
        "false_alarm_rate": head["rate"],
        "images_predicted": len(rows),
        "images": images,
    }
    saved = Path("review.json")
    saved.write_text(json.dumps(content), encoding="utf-8")
    return saved


def _embedded(page: str, name: str) -> Any:
    found = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def _marks(mask: Path) -> list[list[int]]:
    """Returns top, left, bottom and right of every part of a mask that is not a speck."""
    with Image.open(mask) as picture:
        labels, _ = ndimage.label(np.asarray(picture.convert("L")) > 127)
    places = [(rows.start, columns.start, rows.stop, columns.stop) for rows, columns in ndimage.find_objects(labels)]
    return [list(place) for place in places if (place[2] - place[0]) * (place[3] - place[1]) >= 16]


def _meet(box: list[int], other: list[int]) -> bool:
    return box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]


def _sides(box: list[int]) -> dict[str, int]:
    return dict(zip(("top", "left", "bottom", "right"), map(int, box), strict=True))
