"""Writes and reads the content of `model.json`; every field is checked for its type and range."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.backbones import Layer, Normalisation
from blemish.calibration import Calibration
from blemish.calibration.gathered import MOST as MOST_SCORES
from blemish.errors import ModelError, SettingError
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

LONGEST_TEXT = 65_536
MOST_LAYERS = 256
MOST = 1 << 40
"""The largest whole number that a card may hold; `LONGEST_TEXT` is in letters."""


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
    names = {"format", "kind", "recipe", "calibration", "provenance", "files"}
    try:
        _keys("the card", card, names)
        _check_files(card["files"])
        provenance = _provenance(card["provenance"])
        recipe = _recipe(card["recipe"])
        calibration = _calibration(card["calibration"])
        if len(calibration.scores) != (images := provenance.calibrated_on.images):
            raise ValueError(f"{len(calibration.scores)} scores do not fit a calibration on {images} images")
        if len(recipe.layers) != len(recipe.shapes):
            raise ValueError(f"{len(recipe.layers)} layers do not fit the shapes of {len(recipe.shapes)}")
    except (ValueError, SettingError) as error:
        reason = str(error).partition("; ")[0]
        raise ModelError(f"{folder}: its model.json is not valid ({reason}); fit the model again") from None
    return recipe, calibration, provenance


def _check_files(files: Mapping[str, str]) -> None:
    names = set(files)
    always = {LEARNED, INSIDE}
    if names != always and names != {*always, *GRAPHS}:
        odd = sorted(names ^ {*always, *GRAPHS})
        raise ValueError(f"its files are not those of a model: {odd[0]!r} is missing, or is none of them")


def _recipe(found: Any) -> Recipe:
    _keys("recipe", found, {field.name for field in fields(Recipe)})
    _text("recipe.detector", found["detector"])
    _text("recipe.backbone", found["backbone"])
    _integer("recipe.seed", found["seed"], 0)
    _integer("recipe.copies", found["copies"], 0, MOST_COPIES)
    if not isinstance(found["settings"], dict):
        raise ValueError("recipe.settings is not an object")
    layers = _listed("recipe.layers", found["layers"])
    for layer in layers:
        if isinstance(layer, str):
            _text("recipe.layers", layer)
        else:
            _integer("recipe.layers", layer, 0)
    shapes = _listed("recipe.shapes", found["shapes"])
    for layer in shapes:
        _keys("recipe.shapes", layer, {field.name for field in fields(Layer)})
        _text("recipe.shapes.name", layer["name"])
        for side in ("channels", "height", "width"):
            _integer(f"recipe.shapes.{side}", layer[side], 1, 1 << 20)
    geometry = found["geometry"]
    _keys("recipe.geometry", geometry, {field.name for field in fields(Geometry)})
    for name, value in geometry.items():
        if not (value is None and name in {"crop", "tile"}):
            _integer(f"recipe.geometry.{name}", value, 0)
    read = {
        "layers": tuple(layers),
        "shapes": tuple(Layer(**layer) for layer in shapes),
        "normalisation": _normalisation(found["normalisation"]),
    }
    return Recipe(**{**found, **read, "geometry": Geometry(**geometry)})


def _normalisation(found: Any) -> Normalisation | None:
    if found is None:
        return None
    _keys("recipe.normalisation", found, {field.name for field in fields(Normalisation)})
    colours = []
    for name, low in (("mean", -1.0), ("std", 1e-3)):
        values = tuple(_number(f"recipe.normalisation.{name}", value, low, 1e3) for value in _listed(name, found[name]))
        if len(values) != 3:
            raise ValueError(f"recipe.normalisation.{name} has {len(values)} numbers, and there are 3 colours")
        colours.append(values)
    return Normalisation(*colours)


def _calibration(found: Any) -> Calibration:
    kept = ("scores", "medians", "maxima")
    followed = ("threshold", "box_level", "display")
    layers = ("layer_typical", "layer_highest")
    others = {"rate", "box_rate", "given_threshold", "names", "digests", "folds"}
    _keys("calibration", found, {*others, *followed, *kept, *layers})
    rate, box_rate = (_number(f"calibration.{name}", found[name], 0, 1) for name in ("rate", "box_rate"))
    given = found["given_threshold"]
    if given is not None:
        given = _number("calibration.given_threshold", given)
    scores, medians, maxima = (_numbers(f"calibration.{name}", found[name]) for name in kept)
    if not len(scores) == len(medians) == len(maxima):
        raise ValueError(f"calibration has {len(scores)} scores, {len(medians)} medians and {len(maxima)} maxima")
    if (scores[1:] < scores[:-1]).any():
        raise ValueError("calibration.scores are not sorted")
    names = tuple(_text("calibration.names", name) for name in _listed("calibration.names", found["names"]))
    digests = tuple(_digest("calibration.digests", text) for text in _listed("calibration.digests", found["digests"]))
    if not len(names) == len(digests) == len(scores):
        raise ValueError(f"calibration has {len(scores)} scores, {len(names)} names and {len(digests)} digests")
    if len(scores) > MOST_SCORES:
        raise ValueError(f"calibration has {len(scores)} scores, more than {MOST_SCORES}")
    folds = _integer("calibration.folds", found["folds"], 0, len(scores))
    if folds == 1:
        raise ValueError("calibration.folds is 1, and a cross-fit has 2 or more")
    typical, highest = (_by_layer(f"calibration.{name}", found[name], len(scores)) for name in layers)
    if typical.shape != highest.shape:
        raise ValueError("calibration.layer_typical and calibration.layer_highest are not of as many layers")
    calibration = Calibration(
        scores, medians, maxima, rate, box_rate, given, names, digests, folds, typical=typical, highest=highest
    )
    follows = (calibration.threshold, calibration.box_level, list(calibration.display))
    for name, kept_value in zip(followed, follows, strict=True):
        if found[name] != kept_value:
            raise ValueError(f"calibration.{name} {found[name]} is not {kept_value}, which its scores give")
    return calibration


def _by_layer(name: str, found: Any, count: int) -> NDArray[np.float64]:
    """Returns numbers (count, L) from a list of each layer's; there may be no layer."""
    if not isinstance(found, list) or len(found) > MOST_LAYERS:
        raise ValueError(f"{name} is not a list of up to {MOST_LAYERS} layers")
    columns = [_numbers(name, column) for column in found]
    if any(len(column) != count for column in columns):
        raise ValueError(f"{name} does not have {count} numbers a layer")
    return np.stack(columns, 1) if columns else np.zeros((count, 0))


def _provenance(found: Any) -> Provenance:
    texts = {"created", "source", "layout", "weights", "engine", "images_digest"}
    numbers = {"images", "held_out", "skipped", "repeated"}
    rates = {"calibration_share", "asked_false_alarm_rate"}
    others = {"calibration_folds", "trimmed", "learned", "versions", "calibrated_on", "changes", "history"}
    _keys("provenance", found, {*texts, *numbers, *rates, *others})
    for name in texts:
        _text(f"provenance.{name}", found[name])
    for name in numbers:
        _integer(f"provenance.{name}", found[name], 0)
    for name in rates:
        if found[name] is not None:
            _number(f"provenance.{name}", found[name], 0, 1)
    if found["calibration_folds"] is not None:
        _integer("provenance.calibration_folds", found["calibration_folds"], 2)
    for name in ("learned", "versions"):
        if not isinstance(found[name], dict):
            raise ValueError(f"provenance.{name} is not an object")
    for package, version in found["versions"].items():
        _text(f"provenance.versions.{package}", version)
    if not isinstance(found["trimmed"], list):
        raise ValueError("provenance.trimmed is not a list")
    trimmed = tuple(_text("provenance.trimmed", name) for name in found["trimmed"])
    former = found["history"]
    if not isinstance(former, list) or len(former) > HISTORY:
        raise ValueError(f"provenance.history is not a list, or one of more than {HISTORY}")
    read = {
        "changes": _changes(found["changes"]),
        "trimmed": trimmed,
        "calibrated_on": CalibratedOn(**_calibrated("provenance.calibrated_on", found["calibrated_on"], CalibratedOn)),
        "history": tuple(
            FormerCalibration(**_calibrated("provenance.history", entry, FormerCalibration)) for entry in former
        ),
    }
    return Provenance(**{**found, **read})


def _changes(found: Any) -> tuple[Change, ...]:
    changes = _listed("provenance.changes", found)
    if len(changes) > MOST_CHANGES:
        raise ValueError(f"provenance.changes has more than {MOST_CHANGES} of them")
    read = []
    for change in changes:
        _keys("provenance.changes", change, {field.name for field in fields(Change)})
        for name in ("created", "kind", "source", "engine"):
            _text(f"provenance.changes.{name}", change[name])
        for name in ("images", "repeated", "skipped", "anomalous", "calibrating"):
            _integer(f"provenance.changes.{name}", change[name], 0)
        if change["kind"] not in KINDS_OF_CHANGE or type(change["left_out"]) is not bool:
            raise ValueError("provenance.changes has a kind that is not known, or a left_out that is not a truth value")
        worst = change["worst"]
        if not isinstance(worst, list) or len(worst) > NAMED or any(not _is_pair(pair) for pair in worst):
            raise ValueError(f"provenance.changes.worst is not a list of up to {NAMED} names with p-values")
        named = tuple((_text("name", name), _number("p-value", p_value, 0, 1)) for name, p_value in worst)
        read.append(Change(**{**change, "worst": named}))
    return tuple(read)


def _is_pair(found: Any) -> bool:
    return isinstance(found, list) and len(found) == 2


def _calibrated(name: str, found: Any, kind: type[CalibratedOn | FormerCalibration]) -> dict[str, Any]:
    _keys(name, found, {field.name for field in fields(kind)})
    for key, value in found.items():
        if key in {"created", "source"}:
            _text(f"{name}.{key}", value)
        elif key in {"images", "seen"}:
            _integer(f"{name}.{key}", value, 0)
        else:
            _number(f"{name}.{key}", value)
    return dict(found)


def _keys(name: str, found: Any, expected: set[str]) -> None:
    if not isinstance(found, Mapping):
        raise ValueError(f"{name} is not an object")
    for key in sorted(expected ^ found.keys()):
        raise ValueError(f"{name} has no {key}" if key in expected else f"{name} has an unknown {key!r}")


def _listed(name: str, found: Any) -> list[Any]:
    if not isinstance(found, list) or not found:
        raise ValueError(f"{name} is not a list, or an empty one")
    return found


def _text(name: str, found: Any) -> str:
    if not isinstance(found, str) or len(found) > LONGEST_TEXT:
        raise ValueError(f"{name} is not a text, or one of more than {LONGEST_TEXT} letters")
    return found


def _digest(name: str, found: Any) -> str:
    if not isinstance(found, str) or not re.fullmatch(r"[0-9a-f]{16}", found):
        raise ValueError(f"{name} are not digests of images")
    return found


def _integer(name: str, found: Any, low: int, high: int = MOST) -> int:
    if type(found) is not int or not low <= found <= high:
        raise ValueError(f"{name} is not a whole number from {low} to {high}")
    return found


def _numbers(name: str, found: Any) -> NDArray[np.float64]:
    return np.asarray([_number(name, value) for value in _listed(name, found)], np.float64)


def _number(name: str, found: Any, low: float = -math.inf, high: float = math.inf) -> float:
    if type(found) is int and abs(found) > MOST:
        raise ValueError(f"{name} is larger than any number here")
    if type(found) not in (int, float) or not math.isfinite(found) or not low <= found <= high:
        raise ValueError(f"{name} is not a finite number" + (f" from {low:g} to {high:g}" if low > -math.inf else ""))
    return float(found)
