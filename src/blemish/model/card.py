"""The content of `model.json`: what each of its fields may be, how it is written, and how it is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.backbones import Layer, Normalisation
from blemish.calibration import Calibration
from blemish.calibration.gathered import MOST as MOST_SCORES
from blemish.errors import ModelError, SettingError
from blemish.expected import (
    Choice,
    Each,
    Either,
    Maybe,
    Named,
    Number,
    Pair,
    Plain,
    Record,
    Text,
    Truth,
    Whole,
    shown,
)
from blemish.images import Geometry
from blemish.images.copies import MOST as MOST_COPIES
from blemish.model.inside import INSIDE
from blemish.model.provenance import (
    HISTORY,
    KINDS_OF_CHANGE,
    MOST_CHANGES,
    NAMED,
    CalibratedOn,
    Change,
    FormerCalibration,
    Provenance,
)
from blemish.model.recipe import Recipe

LEARNED, FEATURES, SCORING = "learned.safetensors", "features.xml", "scoring.xml"
GRAPHS = (FEATURES, "features.bin", SCORING, "scoring.bin")
"""Files of a saved model's graphs; a model that scores by gradients has none."""

MOST_LAYERS = 256
"""Layers of a backbone that a model may take."""

_SHARE = Number(0, 1)
_COUNT = Whole(0)
_DIGEST = Text(16, "[0-9a-f]{16}", "16 hexadecimal digits")
_SCORES = Each(Number(), 1, MOST_SCORES, "a list of finite numbers, one for each image")

_NORMALISATION = Record(
    {"mean": Each(Number(-1, 1000), 3, 3), "std": Each(Number(1e-3, 1000), 3, 3)},
    Normalisation,
)
_GEOMETRY = Record(
    {"height": _COUNT, "width": _COUNT, "crop": Maybe(_COUNT), "tile": Maybe(_COUNT), "overlap": _COUNT},
    Geometry,
)
_LAYER = Record(
    {"name": Text(), "channels": Whole(1, 1 << 20), "height": Whole(1, 1 << 20), "width": Whole(1, 1 << 20)}, Layer
)
_RECIPE = Record(
    {
        "detector": Text(200),
        "settings": Named(Plain()),
        "backbone": Text(200),
        "normalisation": Maybe(_NORMALISATION),
        "layers": Each(Either(Whole(0, 1000), Text()), 1, MOST_LAYERS),
        "shapes": Each(_LAYER, 1, MOST_LAYERS),
        "geometry": _GEOMETRY,
        "copies": Whole(0, MOST_COPIES),
        "seed": _COUNT,
    },
    Recipe,
)
_OF_LAYERS = ("layer_typical", "layer_highest")

_CALIBRATION = Record(
    {
        "rate": _SHARE,
        "threshold": Number(),
        "given_threshold": Maybe(Number()),
        "box_rate": _SHARE,
        "box_level": Number(),
        "display": Each(Number(), 2, 2),
        "scores": _SCORES,
        "medians": _SCORES,
        "maxima": _SCORES,
        **dict.fromkeys(_OF_LAYERS, Each(_SCORES, 0, MOST_LAYERS)),
        "names": Each(Text(), 1, MOST_SCORES),
        "digests": Each(_DIGEST, 1, MOST_SCORES),
        "folds": Whole(0, MOST_SCORES),
    }
)
_CHANGE = Record(
    {
        **dict.fromkeys(("created", "source", "engine"), Text()),
        **dict.fromkeys(("images", "repeated", "skipped", "anomalous", "calibrating"), _COUNT),
        "kind": Choice(*KINDS_OF_CHANGE),
        "left_out": Truth(),
        "worst": Each(Pair(Text(), _SHARE), 0, NAMED),
    },
    Change,
)
_CALIBRATED_ON = Record({"created": Text(), "source": Text(), "images": _COUNT, "seen": _COUNT}, CalibratedOn)
_FORMER = Record(
    {
        **dict.fromkeys(("created", "source"), Text()),
        "images": _COUNT,
        "rate": _SHARE,
        "threshold": Number(),
        "box_rate": _SHARE,
    },
    FormerCalibration,
)
_PROVENANCE = Record(
    {
        **dict.fromkeys(("created", "source", "layout", "weights", "engine", "images_digest"), Text()),
        **dict.fromkeys(("images", "held_out", "skipped", "repeated"), _COUNT),
        **dict.fromkeys(("calibration_share", "asked_false_alarm_rate"), Maybe(_SHARE)),
        "calibration_folds": Maybe(Whole(2, MOST_SCORES)),
        "trimmed": Each(Text(), 0, MOST_SCORES),
        "learned": Named(Plain()),
        "versions": Named(Text(200)),
        "calibrated_on": _CALIBRATED_ON,
        "changes": Each(_CHANGE, 1, MOST_CHANGES),
        "history": Each(_FORMER, 0, HISTORY),
    },
    Provenance,
)


def card_content(recipe: Recipe, calibration: Calibration, provenance: Provenance) -> dict[str, Any]:
    """Returns the card of a model, as JSON can hold it."""
    return {
        "recipe": {**asdict(recipe), "layers": list(recipe.layers)},
        "calibration": {
            "rate": calibration.rate,
            "threshold": calibration.threshold,
            "given_threshold": calibration.given_threshold,
            "box_rate": calibration.box_rate,
            "box_level": calibration.box_level,
            "display": list(calibration.display),
            "scores": calibration.scores.tolist(),
            "medians": calibration.medians.tolist(),
            "maxima": calibration.maxima.tolist(),
            "layer_typical": calibration.typical.T.tolist(),
            "layer_highest": calibration.highest.T.tolist(),
            "names": list(calibration.names),
            "digests": list(calibration.digests),
            "folds": calibration.folds,
        },
        "provenance": asdict(provenance),
    }


def read_content(folder: Path, card: Mapping[str, Any]) -> tuple[Recipe, Calibration, Provenance]:
    """Returns recipe, calibration and provenance from a card.

    Raises:
        ModelError: a field is missing, of another type or out of range; the message names it.
    """
    try:
        _check_fields(card)
        _check_files(card["files"])
        provenance: Provenance = _PROVENANCE.read("provenance", card["provenance"])
        recipe: Recipe = _RECIPE.read("recipe", card["recipe"])
        calibration = _calibration(_CALIBRATION.read("calibration", card["calibration"]))
        if len(calibration.scores) != (images := provenance.calibrated_on.images):
            raise ValueError(f"{len(calibration.scores)} scores do not fit a calibration on {images} images")
        if len(recipe.layers) != len(recipe.shapes):
            raise ValueError(f"{len(recipe.layers)} layers do not fit the shapes of {len(recipe.shapes)}")
    except (ValueError, SettingError) as error:
        raise ModelError(f"{folder}: its model.json is not valid: {error}; fit the model again") from None
    return recipe, calibration, provenance


def _check_fields(card: Mapping[str, Any]) -> None:
    expected = {"format", "kind", "recipe", "calibration", "provenance", "files"}
    for key in sorted(expected ^ card.keys()):
        raise ValueError(f"the card has no {key}" if key in expected else f"the card has the field {shown(key)}")


def _check_files(files: Mapping[str, str]) -> None:
    names = set(files)
    always = {LEARNED, INSIDE}
    if names != always and names != {*always, *GRAPHS}:
        odd = sorted(names ^ {*always, *GRAPHS})
        raise ValueError(f"its files are not those of a model: {shown(odd[0])} is missing, or does not belong to one")


def _calibration(found: Mapping[str, Any]) -> Calibration:
    scores, medians, maxima = (np.asarray(found[name], np.float64) for name in ("scores", "medians", "maxima"))
    names, digests, folds = found["names"], found["digests"], found["folds"]
    if not len(scores) == len(medians) == len(maxima):
        raise ValueError(f"calibration has {len(scores)} scores, {len(medians)} medians and {len(maxima)} maxima")
    if (scores[1:] < scores[:-1]).any():
        raise ValueError("calibration.scores are not sorted")
    if not len(names) == len(digests) == len(scores):
        raise ValueError(f"calibration has {len(scores)} scores, {len(names)} names and {len(digests)} digests")
    if folds == 1 or folds > len(scores):
        raise ValueError(f"calibration.folds is {folds}; expected 0, or from 2 to {len(scores)}, the number of scores")
    rates = found["rate"], found["box_rate"], found["given_threshold"]
    typical, highest = (_by_layer(f"calibration.{name}", found[name], len(scores)) for name in _OF_LAYERS)
    if typical.shape != highest.shape:
        raise ValueError("calibration.layer_typical and calibration.layer_highest have different numbers of layers")
    calibration = Calibration(scores, medians, maxima, *rates, names, digests, folds, typical=typical, highest=highest)
    follows = {"threshold": calibration.threshold, "box_level": calibration.box_level, "display": calibration.display}
    for name, value in follows.items():
        if found[name] != value:
            raise ValueError(f"calibration.{name} is {shown(found[name])}; expected {value}, which its scores give")
    return calibration


def _by_layer(name: str, found: Sequence[Sequence[float]], count: int) -> NDArray[np.float64]:
    """Returns numbers (count, L) from one list for each layer; there may be no layer."""
    if any(len(column) != count for column in found):
        raise ValueError(f"{name} does not have {count} numbers a layer")
    return np.stack([np.asarray(column) for column in found], 1) if found else np.zeros((count, 0))
