"""Writes predictions to a folder, or as one document to a stream: JSON lines, tables, boxes in other formats."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

from blemish.errors import SettingError
from blemish.model import Model, Prediction
from blemish.model.picture import MAPS, map_file
from blemish.results.coco import Coco
from blemish.results.found import Found
from blemish.results.geojson import GeoJson
from blemish.results.names import Names
from blemish.results.review import PAGE, Review
from blemish.results.tables import Tables
from blemish.results.yolo import Yolo
from blemish.storage import new_folder

RESULTS = "results.jsonl"
DRAWN = "maps"
IN_MEMORY = 16 << 20
"""Bytes of boxes that wait in memory, at most."""

FORMATS = ("jsonl", "csv", "coco", "yolo", "geojson")


class Writer(Protocol):
    """Writes one format."""

    def add(self, found: Found) -> None:
        """Writes one image."""

    def close(self) -> None:
        """Writes the end, after the last image."""


def write_results(
    model: Model,
    predictions: Iterable[Prediction],
    folder: str | Path,
    maps: str = "overlay",
    *,
    sources: Sequence[str | Path] = (),
    formats: Sequence[str] = (),
    review: bool = False,
    force: bool = False,
) -> Iterator[Prediction]:
    """Yields the predictions and writes each; the folder is written after the last one, or not at all.

    It holds `results.jsonl`, with one line for each image, and in `maps` one file for each image, in the same folders
    as the image below its source.

    Args:
        model: the model that predicted; its display scale colours the maps.
        predictions: of files, with maps.
        folder: new, or with `force` one that this function wrote.
        maps: `none`; `overlay`: the photograph with colours, contours and boxes where it differs from good ones,
            as JPEG; `heat`: the heat map alone, as PNG; or `npy`: the map's float32 values.
        sources: of the predictions, as `Model.predict` takes them; without them all files are in one folder.
        formats: additional files: `csv` (`images.csv` and `boxes.csv`), `coco` (`coco.json`), `yolo` (`labels/…`),
            `geojson` (`boxes.geojson`).
        review: also write `review.html`, a page on which a person accepts or rejects verdicts and boxes.
        force: replace a folder that this function wrote and nobody changed.

    Raises:
        SettingError: `maps` or a format is not known.
        ImageError: an image can no longer be read to draw its picture.
        StorageError: the folder exists and may not be replaced, or cannot be written.
    """
    if maps not in {"none", *MAPS}:
        raise SettingError(f"maps {maps!r} is not known; give one of none, {', '.join(MAPS)}")
    _check_formats(formats)
    names = Names(sources)
    with (
        new_folder(folder, "predictions", force=force) as temporary,
        ExitStack() as files,
        (temporary / RESULTS).open("w", encoding="utf-8") as lines,
    ):
        writers: list[Writer] = [_writer(name, temporary, files) for name in formats if name != "jsonl"]
        if review:
            page = (temporary / PAGE).open("w", encoding="utf-8", newline="\n")
            writers.append(Review(model, files.enter_context(page), temporary))
        for prediction in predictions:
            found = _found(model, prediction, names)
            line = prediction.as_dict()
            if found is not None:
                found = replace(found, picture=_draw(model, found, maps, temporary))
                if found.picture is not None:
                    line["map"] = found.picture
                for writer in writers:
                    writer.add(found)
            lines.write(json.dumps(line, allow_nan=False) + "\n")
            yield prediction
            del prediction, found  # maps of large photographs take much memory
        for writer in writers:
            writer.close()


def stream_results(
    model: Model,
    predictions: Iterable[Prediction],
    file: IO[str],
    form: str,
    *,
    sources: Sequence[str | Path] = (),
) -> Iterator[Prediction]:
    """Yields the predictions and writes each to a stream: `csv` (a line for each image), `coco` or `geojson`.

    Raises:
        SettingError: the format is not known, or has more than one document.
    """
    _check_formats([form])
    if form == "yolo":
        raise SettingError("yolo writes a file for each image; give --out DIR, or another format")
    names = Names(sources)
    with ExitStack() as files:
        writer: Writer = (
            Coco(file, _waiting(files)) if form == "coco" else GeoJson(file) if form == "geojson" else Tables(file)
        )
        for prediction in predictions:
            if (found := _found(model, prediction, names)) is not None:
                writer.add(found)
            yield prediction
            del prediction, found
        writer.close()


def _check_formats(formats: Sequence[str]) -> None:
    for name in formats:
        if name not in FORMATS:
            raise SettingError(f"format {name!r} is not known; give one of {', '.join(FORMATS)}")


def _writer(form: str, folder: Path, files: ExitStack) -> Writer:
    def opened(name: str) -> IO[str]:
        # Names of files may hold characters that cannot be encoded.
        return files.enter_context((folder / name).open("w", encoding="utf-8", errors="backslashreplace", newline=""))

    if form == "csv":
        return Tables(opened("images.csv"), opened("boxes.csv"))
    if form == "coco":
        return Coco(opened("coco.json"), _waiting(files))
    return Yolo(folder) if form == "yolo" else GeoJson(opened("boxes.geojson"))


def _waiting(files: ExitStack) -> IO[str]:
    """Returns an empty file that is in memory as long as it is small."""
    return files.enter_context(tempfile.SpooledTemporaryFile(IN_MEMORY, "w+", encoding="utf-8"))


def _found(model: Model, prediction: Prediction, names: Names) -> Found | None:
    """Returns a prediction with its names; `None` for an array or bytes, which have no name."""
    path = prediction.path
    if path is None:
        return None
    p_values = model.calibration.box_p_values([box.peak for box in prediction.boxes]).tolist()
    tiled = model.recipe.geometry.tile is not None
    return Found(prediction, path, names.below(path), names.free(path), tuple(p_values), tiled)


def _draw(model: Model, found: Found, maps: str, folder: Path) -> str | None:
    """Writes the file of a map, and returns its name below the folder."""
    values = found.prediction.map
    if maps == "none" or values is None:
        return None
    name = f"{DRAWN}/{PurePosixPath(found.own).with_suffix(MAPS[maps])}"
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(map_file(model, found.path, values, maps))
    return name
