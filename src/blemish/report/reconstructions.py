"""Draws the figures of the paper on VAE-GRF: images, maps over reconstructions, segmentations, boxes, and curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blemish.datasets import Sample, read_truth
from blemish.errors import SettingError
from blemish.explanation import Explanation
from blemish.images import Pixels
from blemish.maps import Box, Panel, find_boxes, in_view, outlined, overlay, resized, sheet
from blemish.maps.curves import curves
from blemish.model import Model
from blemish.progress import Progress

ROWS = ("image", "marked", "map", "segmentation", "truth", "boxes")
"""Pictures of an image that `reconstructions` can draw."""

FIGURES: dict[str, tuple[str, ...]] = {
    "4": ("image", "map", "segmentation"),
    "5": ("marked", "map", "truth"),
    "6": ("image", "map", "boxes"),
}
"""The rows of the paper's figures, by number."""

SIDE = 224
"""Pictures have as many pixels as a square of this side."""

TRUE, FOUND = (0, 200, 0), (230, 0, 0)
"""Colours of true boxes and of found boxes."""


def reconstructions(
    model: Model, samples: Sequence[Sample], rows: Sequence[str], progress: Progress | None = None
) -> Pixels:
    """Returns a sheet with a column for each image, uint8 (h, w, 3).

    Args:
        model: of `vae` or `vae-grf`.
        samples: the images, one or more.
        rows: from the top, each one of `ROWS`. `image`: as it is; `marked`: with green boxes around true anomalies;
            `map`: over the reconstruction; `segmentation`: white where the map is above the level for boxes; `truth`:
            the mask; `boxes`: true boxes in green and found boxes in red.
        progress: called with the stage, and how many images of how many are done.

    Raises:
        SettingError: the detector does not reconstruct, there is no image, or a row is not known.
        ImageError: an image or a mask cannot be read.
    """
    if not samples or not rows:
        raise SettingError(f"{len(samples)} images in {len(rows)} rows cannot be shown; give one or more of both")
    if unknown := set(rows) - set(ROWS):
        raise SettingError(f"no row is called {sorted(unknown)[0]!r}; give some of {', '.join(ROWS)}")
    columns = []
    for done, sample in enumerate(samples, 1):
        explanation = model.explain(sample.path)
        if explanation.reconstruction is None:
            raise SettingError(f"{model.recipe.detector} reconstructs no images; give a model of vae or vae-grf")
        truth = _truth(model, explanation, sample)
        columns.append([_panel(row, model, explanation, truth) for row in rows])
        if progress:
            progress("explain", done, len(samples))
    return sheet([list(row) for row in zip(*columns, strict=True)], side=SIDE)


def loss_curves(folders: Mapping[str, str | Path], term: str = "elbo") -> Pixels:
    """Returns a chart of a term of the loss over epochs, like figure 3 of the beta-ELBO, uint8 (300, 460, 3).

    Args:
        folders: of checkpoints, by the training's name in the chart.
        term: a column of the logs.

    Raises:
        SettingError: a folder has no log, or the log has no such column.
    """
    from blemish.training import read_epochs

    lines = {}
    for name, folder in folders.items():
        epochs = read_epochs(folder)
        if not epochs or term not in epochs[0].terms:
            known = ", ".join(epochs[0].terms) if epochs else "no step"
            raise SettingError(f"{folder}: its log has no {term!r}; it has {known}")
        lines[name] = [epoch.epoch + 1 for epoch in epochs], [epoch.terms[term] for epoch in epochs]
    return curves(lines, "epoch", f"{term}, nats per pixel and colour")


def correlation_curves(range_: float = 2.0, farthest: float = 10.0) -> Pixels:
    """Returns a chart of the correlations over the distance in pixels, like figure 1, uint8 (300, 460, 3).

    Matérn-3/2 is drawn in the paper's form, which differs from its eq. 2 by a factor of √3 in the range.
    """
    import torch

    from blemish.detectors.vae.random_field import CORRELATIONS

    distances = torch.linspace(0, farthest, 201, dtype=torch.float64)
    lines = {
        name: (distances.tolist(), CORRELATIONS[name](distances / range_).tolist())
        for name in ("matern-1/2", "matern-3/2", "gaussian")
    }
    return curves(lines, f"distance in pixels, range {range_:g}", "correlation")


def _truth(model: Model, explanation: Explanation, sample: Sample) -> NDArray[np.bool_]:
    """Returns where an image is anomalous (H, W); for a photograph in tiles, only the explained tile."""
    mask = read_truth(sample, model.recipe.geometry)
    if explanation.tile is not None:
        top, left, side = explanation.tile
        mask = mask[top : top + side, left : left + side]
    return mask


def _panel(row: str, model: Model, explanation: Explanation, truth: NDArray[np.bool_]) -> Panel:
    shown = _enlarged(explanation.shown)  # enlarged first, so that lines around boxes stay sharp
    image = resized(explanation.image, shown)

    def boxed(picture: Pixels, boxes: Sequence[Box], shape: tuple[int, ...], colour: tuple[int, int, int]) -> Pixels:
        return outlined(picture, in_view(boxes, shape, shown), colour)

    if row == "image":
        return Panel(image)
    if row == "map" and explanation.reconstruction is not None:
        values = resized(explanation.map, shown)
        return Panel(overlay(resized(explanation.reconstruction, shown), values, explanation.display))
    if row == "segmentation":
        return Panel(resized(_white(explanation.map > model.calibration.box_level), shown))
    if row == "truth":
        return Panel(resized(_white(truth), shown))
    marked = boxed(image, find_boxes(truth, 0.5, 1), truth.shape, TRUE)
    if row == "marked":
        return Panel(marked)
    return Panel(boxed(marked, explanation.boxes, explanation.map.shape, FOUND))


def _enlarged(shape: tuple[int, int]) -> tuple[int, int]:
    """Returns the shape of a picture on the sheet."""
    scale = SIDE / math.sqrt(shape[0] * shape[1])
    return max(1, round(scale * shape[0])), max(1, round(scale * shape[1]))


def _white(places: NDArray[np.bool_]) -> Pixels:
    return np.repeat(np.where(places, np.uint8(255), np.uint8(0))[..., None], 3, axis=2)
