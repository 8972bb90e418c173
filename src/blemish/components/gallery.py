"""Writes a gallery of every component on a few images: a folder with a page that opens without a server."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.components.diagnoses import diagnoses
from blemish.components.figures import choose, component_maps
from blemish.components.survey import gaussian, survey
from blemish.datasets import Dataset
from blemish.errors import SettingError, SourceError, require
from blemish.images import Pixels
from blemish.maps import overlay, page_template
from blemish.model import Model
from blemish.progress import Progress
from blemish.storage import new_folder

PAGE = "index.html"
MOST = 32
"""Images in one gallery at most."""

SIDE = 128
"""Longer side of a picture, in pixels."""


def write_gallery(
    model: Model,
    dataset: Dataset,
    folder: Path,
    *,
    images: int = 6,
    force: bool = False,
    progress: Progress | None = None,
) -> None:
    """Writes the folder, whole or not at all: `index.html`, and a strip of pictures for each component.

    Args:
        model: of detector `gaussian`.
        dataset: its training part gives the diagnoses. Its test part, or else the training part, gives the images and
            the top of the colours (the 99th percentile of each component) and, with masks, the AUROC of each component.
        folder: new, or with `force` one that this function wrote.
        images: how many, evenly spaced in that part.
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
        raise SettingError(f"{images} images are too few or too many for a gallery; give 1 to {MOST}")
    if not dataset.train:
        raise SourceError(f"{dataset.root}: has no normal images; give the data that was fitted on")
    template = page_template("blemish.components", "gallery.html")
    with new_folder(folder, "gallery", force=force) as temporary:
        normal = survey(model, dataset.train, progress=progress)
        part = dataset.test or dataset.train
        shown = survey(model, part, masks=dataset.has_masks, progress=progress) if dataset.test else normal
        chosen = choose(model, part, images)
        maps = component_maps(model, chosen.images)
        _strip(chosen.images).save(temporary / "images.jpg", quality=85)
        rows = diagnoses(model, normal, shown if dataset.has_masks else None)
        entries = []
        for layer, name in enumerate(map(str, model.recipe.layers)):
            limits = shown[layer].percentile()
            for row, diagnosis in enumerate(row for row in rows if row.layer == name):
                file = f"layer{layer}-{'sum' if diagnosis.component < 0 else format(diagnosis.component, '04d')}.jpg"
                strip = _strip(_overlaid(chosen.images, maps[layer][:, row], float(limits[row])))
                strip.save(temporary / file, quality=80)
                entries.append({**asdict(diagnosis), "file": file, "limit": float(limits[row]), "width": strip.width})
            if progress:
                progress("gallery", layer + 1, len(model.recipe.layers))
        page = template.render(
            model=model,
            dataset=dataset,
            samples=[f"{sample.kind}/{sample.path.name}" for sample in chosen.samples],
            width=len(chosen.images) * SIDE,
            side=SIDE,
            entries=json.dumps(entries).replace("<", "\\u003c"),
            layers=[str(name) for name in model.recipe.layers],
        )
        (temporary / PAGE).write_text(page, encoding="utf-8")


def _overlaid(images: list[Pixels], maps: NDArray[np.float32], limit: float) -> list[Pixels]:
    return [overlay(image, values, (0.0, max(limit, 1e-12))) for image, values in zip(images, maps, strict=True)]


def _strip(images: list[Pixels]) -> Image.Image:
    """Returns pictures side by side, made small."""
    height, width = images[0].shape[:2]
    scale = SIDE / max(height, width)
    size = (round(width * scale), round(height * scale))
    strip = Image.new("RGB", (size[0] * len(images), size[1]))
    for place, image in enumerate(images):
        strip.paste(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR), (place * size[0], 0))
    return strip
