"""Measures one entry, and records in a result what was measured, on which images, and with which settings."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from blemish.bench.measure import Bench, Measured, fit_and_evaluate
from blemish.bench.peak import peak_bytes, reset_peak
from blemish.bench.protocol import Entry, Protocol
from blemish.bench.results import Result
from blemish.errors import BlemishError, SourceError
from blemish.evaluation import PerImage
from blemish.fitting.split import images_digest
from blemish.model.provenance import now, versions

LONGEST_NAME = 100
"""Letters of a model's name, before the digest in it."""


def measured(
    protocol: Protocol,
    entry: Entry,
    category: str,
    bench: Bench,
    arguments: Mapping[str, Any],
    *,
    drawn: int | None = None,
    models: Path | None = None,
) -> tuple[Result, PerImage | None]:
    """Returns the result of an entry, and the figures of each test image, if it could be measured.

    Args:
        protocol: of the entry.
        entry: what is measured.
        category: the name of the bench's data set.
        bench: to work with.
        arguments: of the fit.
        drawn: how many training images were asked for; `None` for all.
        models: a folder to keep the model in, if a figure is drawn from it.

    Raises:
        StorageError: the model cannot be written.
    """
    base = Result(
        protocol.name,
        entry.name,
        category,
        bench.seed,
        fit={"arguments": plain({**arguments, **entry.view})},
        data=data_of(bench, drawn),
        versions={**versions(), "processor": platform.processor() or platform.machine()},
        time=now(),
    )
    bench.release(arguments)
    reset_peak()
    try:
        if not bench.dataset.test:
            raise SourceError(f"{bench.dataset.root}: has no labelled images to measure on; give some in its test part")
        found = (entry.measure or fit_and_evaluate)(bench, arguments, entry.view)
    except BlemishError as error:
        return replace(base, absent=str(error)), None
    result = replace(
        base,
        figures=plain(found.figures),
        images=[] if found.per_image is None else plain(found.per_image.rows()),
        seconds=found.seconds,
        peak_bytes=peak_bytes(),
        fit={**base.fit, **_described(found), "training": None if bench.training is None else str(bench.training)},
        model=_kept(found, base, models) if models is not None and entry.name in protocol.pictured else None,
    )
    return result, found.per_image


def data_of(bench: Bench, drawn: int | None) -> dict[str, Any]:
    """Returns what a result says about its images, with a digest of their names and sizes."""
    dataset = bench.dataset
    return {
        "source": dataset.root,
        "train": len(dataset.train),
        "test": len(dataset.test),
        "drawn": drawn,
        "digest": images_digest([sample.path for sample in (*dataset.train, *dataset.test)]),
    }


def _described(found: Measured) -> dict[str, Any]:
    """Returns what was fitted: backbone, layers, size, settings and weights."""
    if found.model is None:
        return {}
    recipe = found.model.recipe
    geometry = recipe.geometry
    described: dict[str, Any] = plain(
        {
            "detector": recipe.detector,
            "settings": recipe.settings,
            "backbone": recipe.backbone,
            "layers": list(recipe.layers),
            "size": list(geometry.shape),
            "resized": [geometry.height, geometry.width],
            "weights": found.model.provenance.weights,
            "engine": found.model.provenance.engine,
            "images": found.model.provenance.images,
        }
    )
    return described


def _kept(found: Measured, result: Result, models: Path) -> str | None:
    """Saves a model under a name that depends on its fit, so that no model replaces another; returns its path."""
    if found.model is None or not found.is_whole:
        return None
    told = json.dumps([result.key, result.fit, result.data])
    words = "-".join(map(str, result.key))[:LONGEST_NAME]
    name = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in words)
    path = models / f"{name}-{hashlib.sha256(told.encode()).hexdigest()[:8]}.blemish"
    found.model.save(path, force=path.exists())
    return str(path.absolute())


def plain(value: Any) -> Any:
    """Returns a value as JSON would give it back: lists for tuples, and `None` for a number that is not finite."""
    if isinstance(value, Mapping):
        return {str(name): plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value if value is None or isinstance(value, (str, int, bool)) else str(value)
