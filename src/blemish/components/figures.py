"""Draws the figures of the paper on whitened components (section IV), for any data set, backbone and layers.

They show the worst components on normal images of the training part; the same ones on anomalous images; and the best
ones on these anomalous images, with the layer's own map at the right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from blemish.components.diagnoses import as_csv, diagnoses
from blemish.components.survey import Survey, gaussian, squared_components, survey
from blemish.datasets import Dataset, Sample, evenly_spaced
from blemish.errors import SettingError, SourceError
from blemish.images import Pixels, read_image, read_proportion
from blemish.maps import Panel, overlay, resized, sheet, short
from blemish.model import Model
from blemish.progress import Progress
from blemish.storage import new_folder

DIAGNOSES = "diagnoses.csv"

Maps = list[NDArray[np.float32]]


@dataclass(frozen=True)
class Chosen:
    """Images to show, with their places in their part of the data set.

    Attributes:
        places: of the images in their part.
        images: (H, W, 3), at the model's input size.
        shapes: height and width at which pictures show each image, in its own proportions.
        samples: the images' samples.
    """

    places: list[int]
    images: list[Pixels]
    shapes: list[tuple[int, int]]
    samples: list[Sample]


def write_figures(
    model: Model,
    dataset: Dataset,
    folder: str | Path,
    *,
    components: int = 3,
    images: int = 3,
    force: bool = False,
    progress: Progress | None = None,
) -> list[str]:
    """Writes three figures for each layer and `diagnoses.csv`, all or nothing; returns their names.

    Args:
        model: of detector `gaussian`.
        dataset: with masks; its training part gives the normal images.
        folder: new, or with `force` one that this function wrote.
        components: how many of the worst and of the best.
        images: how many normal and how many anomalous ones, evenly spaced in their part.
        force: replace what is there.
        progress: called with the stage, and how many images of how many are done.

    Raises:
        SettingError: the detector has no components that all positions share, or a number is not positive.
        SourceError: the data set has no masks, no training part or no anomalous images.
        StorageError: the folder cannot be written.
    """
    found = gaussian(model)
    if components < 1 or images < 1:
        raise SettingError(f"{components} components of {images} images cannot be shown; give 1 or more")
    anomalous = [sample for sample in dataset.test if sample.is_anomalous]
    if not (dataset.has_masks and dataset.train and anomalous):
        raise SourceError(
            f"{dataset.root}: the figures need normal images, anomalous ones and their masks; "
            "give a tree with train/good, test and ground_truth"
        )
    with new_folder(folder, "figures", force=force) as temporary:
        normal = survey(model, dataset.train, progress=progress)
        judged = survey(model, dataset.test, masks=True, progress=progress)
        (temporary / DIAGNOSES).write_text(as_csv(diagnoses(model, normal, judged)), encoding="utf-8")
        shown = choose(model, dataset.train, images), choose(model, anomalous, images, dataset.test)
        maps = [component_maps(model, chosen.images) for chosen in shown]
        names = [DIAGNOSES]
        for layer, name in enumerate(model.recipe.layers):
            indices = found.components(layer).indices
            areas = [area or 0.0 for area in judged[layer].auroc()[:-1]]
            order = [int(row) for row in np.argsort(areas, kind="stable")]
            worst, best = order[:components], order[::-1][:components]
            title = _title(model, layer, judged[layer])
            (at, before), (at_test, after) = ((chosen, of[layer]) for chosen, of in zip(shown, maps, strict=True))
            own, own_test = normal[layer].percentile(), judged[layer].percentile()
            together = [judged[layer].percentile_together()] * len(own_test)
            for kind, words, panels in (
                ("worst-normal", "worst components, training images", _grid(at, before, worst, indices, own)),
                ("worst-anomalous", "worst components, test images", _grid(at_test, after, worst, indices, own_test)),
                (
                    "best-anomalous",
                    "best components and the layer's map, test images",
                    _grid(at_test, after, best, indices, together, own_test[-1]),
                ),
            ):
                names.append(f"layer-{_plain(name)}-{kind}.png")
                Image.fromarray(sheet(panels, f"{title}\n{words}")).save(temporary / names[-1])
    return names


def choose(model: Model, samples: Sequence[Sample], count: int, part: Sequence[Sample] | None = None) -> Chosen:
    """Returns evenly spaced images of the samples, and their places in the part, which is the samples by default."""
    places = evenly_spaced(len(samples), count)
    chosen = [samples[place] for place in places]
    geometry = model.recipe.geometry
    return Chosen(
        [list(part if part is not None else samples).index(sample) for sample in chosen],
        [read_image(sample.path, geometry) for sample in chosen],
        [geometry.displayed(read_proportion(sample.path)) for sample in chosen],
        chosen,
    )


def drawn(image: Pixels, values: NDArray[np.float32], limit: float, shape: tuple[int, int]) -> Pixels:
    """Returns an image under a component's map, whose colours run from 0 to the limit, at the shape given."""
    return overlay(resized(image, shape), resized(values, shape), (0.0, max(limit, 1e-12)))


def component_maps(model: Model, images: Sequence[Pixels]) -> list[NDArray[np.float32]]:
    """Returns for each layer the squared components of images at input size (B, K + 1, H, W), their sum last."""
    found = squared_components(model, np.stack(images))
    with torch.inference_mode():
        return [model.scoring.resized(torch.cat([maps, maps.sum(1, keepdim=True)], 1)).numpy() for maps in found]


def _grid(
    chosen: Chosen,
    maps: NDArray[np.float32],
    rows: Sequence[int],
    indices: Sequence[int],
    limits: Sequence[float] | NDArray[np.float64],
    score_limit: float | None = None,
) -> list[list[Panel]]:
    """Returns a row for each image and a column for each component; with a `score_limit` the layer's map is last."""
    panels: list[list[Panel]] = []
    columns = [*rows, -1] if score_limit is not None else list(rows)
    pictures = zip(chosen.places, chosen.images, chosen.shapes, strict=True)
    for row, (place, image, shape) in enumerate(pictures):
        panels.append([])
        for column, component in enumerate(columns):
            limit = score_limit if component < 0 and score_limit is not None else float(limits[component])
            name = "map" if component < 0 else f"component {indices[component]}"
            panels[-1].append(
                Panel(
                    drawn(image, maps[row, component], limit, shape),
                    f"image {place}, {name}\nplace {row * len(columns) + column + 1}, to {short(limit)}",
                )
            )
    return panels


def _title(model: Model, layer: int, judged: Survey) -> str:
    height, width = judged.total.shape[1:]
    figures = judged.tally.figures()
    told = ", ".join(
        f"{name} {'–' if value is None else f'{100 * value:.2f}'}"
        for name, value in zip(("pixel AUROC", "AUPR", "AUPRO"), figures.values(), strict=True)
    )
    return f"{model.recipe.backbone}, layer {model.recipe.layers[layer]}, {height}x{width}\n{told}"


def _plain(name: int | str) -> str:
    """Returns a layer's name as a part of file names."""
    return "".join(letter if letter.isalnum() else "-" for letter in str(name))
