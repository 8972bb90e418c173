"""Writes a gallery of every component on a few images: a folder with a page that opens without a server."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
from PIL import Image

from blemish.components.diagnoses import diagnoses
from blemish.components.figures import choose, component_maps, drawn
from blemish.components.survey import gaussian, survey
from blemish.datasets import Dataset
from blemish.errors import SettingError, SourceError, require
from blemish.images import Pixels
from blemish.maps import page_template, resized
from blemish.model import Model
from blemish.progress import Progress
from blemish.storage import new_folder

PAGE = "index.html"
MOST = 32
"""Images in one gallery, at most."""

SIDE = 128
"""Side of a square picture, in pixels; pictures of other shapes have as many pixels on average."""


def write_gallery(
    model: Model,
    dataset: Dataset,
    folder: str | Path,
    *,
    images: int = 6,
    force: bool = False,
    progress: Progress | None = None,
) -> None:
    """Writes the folder whole or not at all: `index.html`, and a strip of pictures for each component.

    Args:
        model: of detector `gaussian`.
        dataset: its training part gives the diagnoses. Its test part, or else the training part, gives the images and
            the top of the colours (the 99th percentile of each component) and, with masks, the AUROC of each component.
        folder: new, or with `force` one that this function wrote.
        images: how many images, evenly spaced in that part.
        force: replace what is there.
        progress: called with the stage, and how many images of how many are done.

    Raises:
        SettingError: the detector has no components that all positions share, or the number of images is out of range.
        SourceError: the data set has no training part.
        MissingExtraError: jinja2 is not installed.
        StorageError: the folder cannot be written.
    """
    require("jinja2", of="a gallery", extra="report")
    gaussian(model)
    if not 1 <= images <= MOST:
        raise SettingError(f"{images} images is out of range for a gallery; give 1 to {MOST}")
    if not dataset.train:
        raise SourceError(f"{dataset.root}: has no good images; give the data that the model was fitted on")
    template = page_template("blemish.components", "gallery.html")
    with new_folder(folder, "gallery", force=force) as temporary:
        normal = survey(model, dataset.train, progress=progress)
        part = dataset.test or dataset.train
        shown = survey(model, part, masks=dataset.has_masks, progress=progress) if dataset.test else normal
        chosen = choose(model, part, images)
        maps = component_maps(model, chosen.images)
        images_alone = _strip([resized(*each) for each in zip(chosen.images, chosen.shapes, strict=True)])
        images_alone.save(temporary / "images.jpg", quality=85)
        rows = diagnoses(model, normal, shown if dataset.has_masks else None)
        entries = []
        for layer, name in enumerate(map(str, model.recipe.layers)):
            limits = shown[layer].percentile()
            for row, diagnosis in enumerate(row for row in rows if row.layer == name):
                file = f"layer{layer}-{'sum' if diagnosis.component < 0 else format(diagnosis.component, '04d')}.jpg"
                shown_maps = zip(chosen.images, maps[layer][:, row], chosen.shapes, strict=True)
                strip = _strip([drawn(image, values, float(limits[row]), shape) for image, values, shape in shown_maps])
                strip.save(temporary / file, quality=80)
                entries.append({**asdict(diagnosis), "file": file, "limit": float(limits[row])})
            if progress:
                progress("gallery", layer + 1, len(model.recipe.layers))
        page = template.render(
            model=model,
            dataset=dataset,
            samples=[f"{sample.kind}/{sample.path.name}" for sample in chosen.samples],
            size=images_alone.size,
            entries=json.dumps(entries).replace("<", "\\u003c"),
            layers=[str(name) for name in model.recipe.layers],
        )
        (temporary / PAGE).write_text(page, encoding="utf-8")


def _strip(images: list[Pixels]) -> Image.Image:
    """Returns pictures side by side, shrunk to the same height."""
    ratios = [image.shape[0] / image.shape[1] for image in images]
    height = round(SIDE * math.prod(ratios) ** (0.5 / len(ratios)))
    small = [
        resized(image, (height, max(1, round(height / ratio)))) for image, ratio in zip(images, ratios, strict=True)
    ]
    return Image.fromarray(np.concatenate(small, axis=1))
