"""Leaves components out of a model: by their border effect, by their AUROC, or by index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from blemish.components.survey import gaussian, survey
from blemish.datasets import Dataset, read_source
from blemish.errors import SettingError, SourceError
from blemish.evaluation import Evaluation, evaluate
from blemish.fitting import check_images, refit
from blemish.model import Model
from blemish.progress import Progress

Drop = tuple[tuple[int, ...], ...]
"""For each layer, the indices of components in the order of their eigenvalues."""


@dataclass(frozen=True)
class Pruning:
    """A pruned model, the components that it leaves out, and evaluations before and after if there are labels."""

    model: Model
    dropped: Drop
    before: Evaluation | None
    after: Evaluation | None


def prune(
    model: Model,
    source: str | Path | Dataset | None = None,
    *,
    border: float | None = None,
    keep_best: int | None = None,
    drop: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Pruning:
    """Returns the model without some of its components, fitted and calibrated on the same images as before.

    Give exactly one of `border`, `keep_best` and `drop`. Components that were left out before stay out.

    Args:
        model: of detector `gaussian`.
        source: the data it was fitted on, with or without labels; by default at its path of that time.
        border: leave out components whose mean on the border of good images is at least this many times that inside.
        keep_best: keep only this many of each layer, with the highest AUROC on the labelled images. The choice uses the
            labels, so the later figures on these images are too good.
        drop: indices, as `INDEX`, or `LAYER:INDEX` if there are several layers.
        progress: called with the stage, and how many images of how many are done.

    Raises:
        SettingError: the detector has no components that all positions share, there is no such component, or none
            would be left.
        SourceError: the images are no longer there or have changed, or there are no masks to choose by.
    """
    found = gaussian(model)
    if sum(way is not None for way in (border, keep_best, drop)) != 1:
        raise SettingError("give one way to choose what to leave out: a border effect, how many to keep, or a list")
    dataset = (
        source if isinstance(source, Dataset) else read_source(source or model.provenance.source, model.recipe.seed)
    )
    check_images(model, dataset)
    layers = [found.components(layer) for layer in range(len(model.recipe.layers))]
    if drop is not None:
        chosen = _listed(model, drop)
    elif border is not None:
        if not border > 0:
            raise SettingError(f"a border effect of {border} is out of range; give a number above 0, such as 2")
        surveys = survey(model, dataset.train, progress=progress)
        chosen = tuple(
            tuple(index for index, effect in zip(layer.indices, seen.ring()[:-1], strict=True) if effect >= border)
            for layer, seen in zip(layers, surveys, strict=True)
        )
    else:
        chosen = _all_but_best(model, dataset, keep_best or 0, progress)
    before_now = found.drop or ((),) * len(layers)
    dropped = tuple(tuple(sorted({*old, *new})) for old, new in zip(before_now, chosen, strict=True))
    for name, layer, left_out in zip(model.recipe.layers, layers, dropped, strict=True):
        if not set(layer.indices) - set(left_out):
            raise SettingError(f"no component of layer {name} would be left of {len(layer.indices)}; drop fewer")
    pruned = refit(model, replace(found, drop=dropped), dataset, progress)
    if not dataset.test:
        return Pruning(pruned, dropped, None, None)
    return Pruning(pruned, dropped, evaluate(model, dataset, progress), evaluate(pruned, dataset, progress))


def _all_but_best(model: Model, dataset: Dataset, count: int, progress: Progress | None) -> Drop:
    if count < 1:
        raise SettingError(f"{count} components to keep is out of range; give 1 or more")
    if not dataset.has_masks:
        raise SourceError(f"{dataset.root}: has no masks to choose components by; give a border effect or a list")
    chosen = []
    for layer, seen in enumerate(survey(model, dataset.test, masks=True, progress=progress)):
        indices = gaussian(model).components(layer).indices
        areas = [area or 0.0 for area in seen.auroc()[:-1]]
        worst = np.argsort(areas, kind="stable")[: max(0, len(areas) - count)]
        chosen.append(tuple(indices[row] for row in worst))
    return tuple(chosen)


def _listed(model: Model, names: Sequence[str]) -> Drop:
    """Returns the components named by `INDEX` or `LAYER:INDEX`, by layer."""
    layers = [str(layer) for layer in model.recipe.layers]
    found: list[list[int]] = [[] for _ in layers]
    for name in names:
        layer, _, index = name.rpartition(":")
        if not index.strip().isdecimal() or len(index) > 9:
            raise SettingError(f"{name!r} is not a component; give its index, or LAYER:INDEX")
        if not layer and len(layers) > 1:
            raise SettingError(f"component {name} may be of layer {' or '.join(layers)}; give LAYER:{name}")
        if layer and layer not in layers:
            raise SettingError(f"the model has no layer {layer!r}; it has {', '.join(layers)}")
        found[layers.index(layer) if layer else 0].append(int(index))
    return tuple(map(tuple, found))
