"""Draws the figures of the paper on whitened components (section IV), for any data set, backbone and layers.

They show the worst components on good images of the training part; the same components on anomalous images; and the
best components on these anomalous images, with the layer's own map at the right.
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
from blemish.datasets import Dataset, Sample, evenly_spaced, picked
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
        dataset: with masks; its training part gives the good images.
        folder: new, or with `force` one that this function wrote.
        components: how many of the worst and of the best.
        images: how many good and how many anomalous images, evenly spaced in their part.
        force: replace what is there.
        progress: called with the stage, and how many images of how many are done.

    Raises:
        SettingError: the detector has no components that all positions share, or a number is not positive.
        SourceError: the data set has no masks, no training part or no anomalous images.
        StorageError: the folder cannot be written.
    """
    with new_folder(folder, "figures", force=force) as temporary:
        return draw_figures(model, dataset, temporary, components=components, images=images, progress=progress)


def draw_figures(
    model: Model,
    dataset: Dataset,
    folder: Path,
    *,
    components: int | Sequence[int] = 3,
    images: int | Sequence[int] = 3,
    progress: Progress | None = None,
) -> list[str]:
    """Writes three figures for each layer and `diagnoses.csv` to an existing folder; returns their names.

    Args:
        model: of detector `gaussian`.
        dataset: with masks; its training part gives the good images.
        folder: an existing folder.
        components: how many of the worst and of the best; or which, counted from 0 by eigenvalue, for all figures.
        images: how many good and how many anomalous images, evenly spaced in their part; or the numbers of images in
            the test part, counted from 0, with as many good ones.
        progress: called with the stage, and how many images of how many are done.

    Raises:
        SettingError: the detector has no components that all positions share, there is no such component, or a number
            is not positive.
        SourceError: the data set has no masks, no training part, no anomalous images, or no image of that number.
    """
    found = gaussian(model)
    count = images if isinstance(images, int) else len(images)
    if (components if isinstance(components, int) else len(components)) < 1 or count < 1:
        raise SettingError(f"{components} components of {images} images cannot be shown; give 1 or more")
    anomalous = [sample for sample in dataset.test if sample.is_anomalous]
    if not (dataset.has_masks and dataset.train and anomalous):
        raise SourceError(
            f"{dataset.root}: the figures need good images, anomalous ones and their masks; "
            "give a tree with train/good, test and ground_truth"
        )
    if isinstance(images, int):
        tested = [anomalous[place] for place in evenly_spaced(len(anomalous), count)]
    else:
        tested = picked(dataset, images)
    normal = survey(model, dataset.train, progress=progress)
    judged = survey(model, dataset.test, masks=True, progress=progress)
    (folder / DIAGNOSES).write_text(as_csv(diagnoses(model, normal, judged)), encoding="utf-8")
    shown = choose(model, dataset.train, count), _chosen(model, tested, dataset.test)
    maps = [component_maps(model, chosen.images) for chosen in shown]
    names = [DIAGNOSES]
    for layer, name in enumerate(model.recipe.layers):
        indices = found.components(layer).indices
        if isinstance(components, int):
            areas = [area or 0.0 for area in judged[layer].auroc()[:-1]]
            order = [int(row) for row in np.argsort(areas, kind="stable")]
            (low, worst), (high, best) = ("worst", order[:components]), ("best", order[::-1][:components])
        else:
            missing = [index for index in components if index not in indices]
            if missing:
                raise SettingError(
                    f"layer {name} has no component {missing[0]}; it has {len(indices)}, from {indices[0]}"
                )
            low = high = "chosen"
            worst = best = [indices.index(index) for index in components]
        title = _title(model, layer, judged[layer])
        (at, before), (at_test, after) = ((chosen, of[layer]) for chosen, of in zip(shown, maps, strict=True))
        own, own_test = normal[layer].percentile(), judged[layer].percentile()
        together = [judged[layer].percentile_together()] * len(own_test)
        for kind, words, panels in (
            (f"{low}-good", f"{low} components, training images", _grid(at, before, worst, indices, own)),
            (f"{low}-anomalous", f"{low} components, test images", _grid(at_test, after, worst, indices, own_test)),
            (
                f"{high}-with-map",
                f"{high} components and the layer's map, test images",
                _grid(at_test, after, best, indices, together, own_test[-1]),
            ),
        ):
            names.append(f"layer-{_plain(name)}-{kind}.png")
            Image.fromarray(sheet(panels, f"{title}\n{words}")).save(folder / names[-1])
    return names


def choose(model: Model, samples: Sequence[Sample], count: int) -> Chosen:
    """Returns evenly spaced images of a part, and their places in it."""
    return _chosen(model, [samples[place] for place in evenly_spaced(len(samples), count)], samples)


def _chosen(model: Model, chosen: list[Sample], part: Sequence[Sample]) -> Chosen:
    geometry = model.recipe.geometry
    return Chosen(
        [part.index(sample) for sample in chosen],
        [read_image(sample.path, geometry) for sample in chosen],
        [geometry.displayed(read_proportion(sample.path)) for sample in chosen],
        chosen,
    )


def drawn(image: Pixels, values: NDArray[np.float32], limit: float, shape: tuple[int, int]) -> Pixels:
    """Returns an image with a component's map over it, at the given shape; colours run from 0 to the limit."""
    return overlay(resized(image, shape), resized(values, shape), (0.0, max(limit, 1e-12)))


def component_maps(model: Model, images: Sequence[Pixels]) -> list[NDArray[np.float32]]:
    """Returns the squared components of images for each layer, at input size (B, K + 1, H, W), their sum last."""
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
        f"{name} {'–' if (value := figures[key]) is None else f'{100 * value:.2f}'}"
        for key, name in {"auroc": "pixel AUROC", "aupr": "AUPR", "aupro": "AUPRO"}.items()
    )
    return f"{model.recipe.backbone}, layer {model.recipe.layers[layer]}, {height}x{width}\n{told}"


def _plain(name: int | str) -> str:
    """Returns a layer's name as a part of file names."""
    return "".join(letter if letter.isalnum() else "-" for letter in str(name))
