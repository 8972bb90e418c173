"""Draws images with their ground truth, the map of each layer, and the whole map, as in the paper on HFR."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from blemish.datasets import Dataset, Sample, evenly_spaced, picked, read_truth
from blemish.errors import SettingError, SourceError
from blemish.explanation import Explanation
from blemish.images import Geometry, Pixels
from blemish.maps import Panel, resized, sheet
from blemish.model import Model
from blemish.progress import Progress
from blemish.storage import new_folder

LAYERS = "layers.png"


def write_layers(
    model: Model,
    dataset: Dataset,
    folder: str | Path,
    *,
    images: int = 3,
    force: bool = False,
    progress: Progress | None = None,
) -> list[str]:
    """Writes one figure with a row for each image, all or nothing; returns its name in a list.

    The columns are the image, its ground truth if there are masks, each layer's map, and the whole map. A VAE has no
    layers and shows its reconstruction instead. Each map has its own scale, set by good images, so a good part is dark.

    Args:
        model: of any detector.
        dataset: with a test part.
        folder: new, or with `force` one that this function wrote.
        images: how many anomalous images, evenly spaced in the test part; one good image comes before them.
        force: replace what is there.
        progress: called with the stage, and how many images of how many are done.

    Raises:
        SettingError: `images` is not positive.
        SourceError: the data set has no anomalous images.
        ImageError: an image or a mask cannot be read.
        StorageError: the folder cannot be written.
    """
    with new_folder(folder, "figures", force=force) as temporary:
        Image.fromarray(draw_layers(model, dataset, images, progress)).save(temporary / LAYERS)
    return [LAYERS]


def draw_layers(
    model: Model, dataset: Dataset, images: int | Sequence[int] = 3, progress: Progress | None = None
) -> Pixels:
    """Returns the figure of `write_layers`, uint8 (h, w, 3).

    Args:
        model: of any detector.
        dataset: with a test part.
        images: how many anomalous images, after a good one; or the numbers of images in the test part, from 0.
        progress: called with the stage, and how many images of how many are done.

    Raises:
        SettingError: `images` is not positive.
        SourceError: the data set has no anomalous images, or no image of that number.
        ImageError: an image or a mask cannot be read.
    """
    if (images if isinstance(images, int) else len(images)) < 1:
        raise SettingError(f"{images} images cannot be shown; give 1 or more")
    anomalous = [sample for sample in dataset.test if sample.is_anomalous]
    good = [sample for sample in dataset.test if not sample.is_anomalous]
    if not anomalous:
        raise SourceError(
            f"{dataset.root}: has no labelled anomalous images to show; give a tree with test/<defect> folders"
        )
    if isinstance(images, int):
        shown = [*good[:1], *(anomalous[place] for place in evenly_spaced(len(anomalous), images))]
    else:
        shown = picked(dataset, images)
    rows: list[Sequence[Panel]] = []
    for done, sample in enumerate(shown, 1):
        rows.append(_row(model.explain(sample.path), sample, dataset.has_masks, model.recipe.geometry))
        if progress:
            progress("explain", done, len(shown))
    return sheet(rows, f"{model.recipe.detector} on {model.recipe.backbone}")


def _row(explanation: Explanation, sample: Sample, has_masks: bool, geometry: Geometry) -> list[Panel]:
    image, *layers, whole = explanation.panels()
    word = "anomalous" if explanation.score > explanation.threshold else "good"
    found = Panel(
        whole.pixels, f"map, judged {word}\nscore {explanation.score:.4g}, threshold {explanation.threshold:.4g}"
    )
    truth = [Panel(_truth(explanation, sample, geometry), "ground truth")] if has_masks else []
    return [Panel(image.pixels, f"{sample.path.name}\n{sample.kind}"), *truth, *layers, found]


def _truth(explanation: Explanation, sample: Sample, geometry: Geometry) -> Pixels:
    """Returns the mask in black and white; for a photograph in tiles, only the explained tile."""
    mask = read_truth(sample, geometry)
    if explanation.tile is not None:
        top, left, side = explanation.tile
        mask = mask[top : top + side, left : left + side]
    return resized(np.repeat(np.where(mask, np.uint8(255), np.uint8(0))[..., None], 3, axis=2), explanation.shown)
