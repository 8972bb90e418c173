"""The pictures of a report: each image once, its map by each model, and the outlines and boxes over them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.datasets import Sample, read_truth, true_boxes
from blemish.errors import ImageError
from blemish.evaluation import Evaluation
from blemish.images import Geometry, Pixels, decode_ahead, read_image, read_size
from blemish.images.tiling import SMALLEST
from blemish.maps import Box, heat_map
from blemish.model import Model, Prediction
from blemish.progress import Progress
from blemish.report.outlines import Outline, block_largest, outline
from blemish.report.table import printable

LONGEST = 640
"""Pixels on the longer side of an image's picture, at most."""

LONGEST_MAP = 512
"""Pixels on the longer side of a map's picture, at most."""

QUALITY = 82
"""Quality of JPEG."""

AHEAD, AHEAD_LARGE = 16, 2
"""Images that are decoded before they are needed, at most; fewer if they are photographs that are cut into tiles."""

Side = dict[str, Any]


@dataclass(frozen=True)
class Ground:
    """One image without any model: its picture, its own height and width, and its marked defects."""

    picture: bytes
    size: tuple[int, int]
    truth: Outline | None
    boxes: list[Box]


def draw_pictures(
    judged: Sequence[tuple[Model, Evaluation]], folder: Path, progress: Progress | None = None
) -> list[Side]:
    """Writes the pictures of all images into a folder. Returns the page's data for each image.

    The maps are computed again, one image at a time, so that few are in memory at once.

    Args:
        judged: models and their evaluations, whose images are the same.
        folder: to write to.
        progress: called with the stage, and how many images of how many are done.
    """
    _, first = judged[0]
    samples = [sample for sample, _ in first.results]
    maps = zip(*(model.judge([sample.path for sample in samples]) for model, _ in judged), strict=True)
    large = any(model.recipe.geometry.tile is not None for model, _ in judged)
    reading = partial(_ground, has_masks=first.dataset.has_masks)
    grounds = decode_ahead(reading, samples, ahead=AHEAD_LARGE if large else AHEAD)
    calibrating = [set(model.calibration.digests) - {""} for model, _ in judged]
    entries = []
    for place, (sample, ground, found) in enumerate(zip(samples, grounds, maps, strict=True)):
        if isinstance(ground, ImageError) or any(each.map is None for each in found):
            continue  # it can no longer be read
        picture = f"{place:05d}.jpg"
        (folder / picture).write_bytes(ground.picture)
        models = []
        for number, ((model, evaluation), now) in enumerate(zip(judged, found, strict=True)):
            if now.map is not None:
                before = evaluation.results[place][1]
                entry = _found(model, before, now.boxes, now.map, folder / f"{place:05d}-{number + 1}.jpg")
                models.append({**entry, "calibrated": before.digest in calibrating[number]})
        entries.append(
            {
                "name": printable(first.per_image.names[place]),
                "kind": printable(sample.kind),
                "anomalous": sample.is_anomalous,
                "size": ground.size,
                "picture": picture,
                "truth": None if ground.truth is None else _drawn(ground.truth),
                "boxes": [_corner(box) for box in ground.boxes],
                "models": models,
            }
        )
        if progress:
            progress("report", place + 1, len(samples))
    return entries


def heat_area(geometry: Geometry) -> tuple[float, float, float, float]:
    """Returns left, top, width and height of the part that a model sees, as shares of the image."""
    top, left = geometry.margins
    height, width = geometry.shape
    if geometry.tile is not None:
        return 0.0, 0.0, 1.0, 1.0
    whole = (geometry.height, geometry.width)
    return left / whole[1], top / whole[0], width / whole[1], height / whole[0]


def jpeg(pixels: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def _ground(sample: Sample, *, has_masks: bool) -> Ground:
    height, width = read_size(sample.path)
    scale = min(1.0, LONGEST / max(height, width))
    shape = (max(SMALLEST, round(height * scale)), max(SMALLEST, round(width * scale)))
    picture = jpeg(read_image(sample.path, Geometry(*shape)))
    if not has_masks or sample.mask is None:
        return Ground(picture, (height, width), None, [])
    truth = read_truth(sample, None)
    return Ground(picture, (height, width), outline(truth), true_boxes(sample, truth, None))


def _found(model: Model, before: Prediction, boxes: Sequence[Box], values: NDArray[np.float32], heat: Path) -> Side:
    """Writes a model's map of an image, and returns the page's data about both."""
    coarse = block_largest(values, LONGEST_MAP)
    heat.write_bytes(jpeg(heat_map(coarse, model.calibration.display)))
    return {
        "score": before.score,
        "p": before.p_value,
        "known": before.is_known,
        "heat": heat.name,
        "boxes": [_corner(box) for box in boxes],
        "outline": _drawn(outline(coarse > model.calibration.box_level)),
    }


def _drawn(lines: Outline) -> Side | None:
    return {"path": lines.path, "grid": lines.grid} if lines.path else None


def _corner(box: Box) -> list[float]:
    """Returns left, top, width and height."""
    return [box.left, box.top, box.right - box.left, box.bottom - box.top]
