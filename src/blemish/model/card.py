"""What stands in `model.json`: how it is written, and how it is read: every field is checked for type and range."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from blemish.calibration import Calibration
from blemish.errors import ModelError, SettingError
from blemish.images import Geometry
from blemish.model.recipe import GRAPHS, LEARNED, Recipe

LONGEST_TEXT = 65_536
MOST = 1 << 40
"""The longest text and the largest number of anything that a card may hold."""


def card_content(recipe: Recipe, calibration: Calibration, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """The card of a model, as JSON can hold it."""
    return {
        "recipe": {**asdict(recipe), "layers": list(recipe.layers)},
        "calibration": {
            "rate": calibration.rate,
            "threshold": calibration.threshold,
            "display": list(calibration.display),
            "scores": calibration.scores.tolist(),
        },
        "provenance": dict(provenance),
    }


def read_content(folder: Path, card: Mapping[str, Any]) -> tuple[Recipe, Calibration, dict[str, Any]]:
    """What `card_content` wrote.

    Raises:
        ModelError: a field is missing, of another type or out of range; the text names it.
    """
    names = {"format", "kind", "recipe", "calibration", "provenance", "files"}
    try:
        _keys("the card", card, names)
        _check_files(card["files"])
        provenance = card["provenance"]
        _check_provenance(provenance)
        recipe = _recipe(card["recipe"])
        calibration = _calibration(card["calibration"])
        if len(calibration.scores) != provenance["held_out"]:
            raise ValueError(f"{len(calibration.scores)} scores do not fit {provenance['held_out']} held-out images")
        if len(recipe.layers) != len(provenance["layers"]):
            raise ValueError(f"{len(recipe.layers)} layers do not fit the shapes of {len(provenance['layers'])}")
    except (ValueError, SettingError) as error:
        reason = str(error).partition("; ")[0]
        raise ModelError(f"{folder}: its model.json is not valid ({reason}); fit the model again") from None
    return recipe, calibration, dict(provenance)


def _check_files(files: Mapping[str, str]) -> None:
    names = set(files)
    if names != {LEARNED} and names != {LEARNED, *GRAPHS}:
        odd = sorted(names ^ {LEARNED, *GRAPHS})
        raise ValueError(f"its files are not those of a model: {odd[0]!r} is missing, or is none of them")


def _recipe(found: Any) -> Recipe:
    _keys("recipe", found, {field.name for field in fields(Recipe)})
    _text("recipe.detector", found["detector"])
    _text("recipe.backbone", found["backbone"])
    _integer("recipe.seed", found["seed"], 0)
    if not isinstance(found["settings"], dict):
        raise ValueError("recipe.settings is no object")
    layers = _listed("recipe.layers", found["layers"])
    for layer in layers:
        if isinstance(layer, str):
            _text("recipe.layers", layer)
        else:
            _integer("recipe.layers", layer, 0)
    geometry = found["geometry"]
    _keys("recipe.geometry", geometry, {field.name for field in fields(Geometry)})
    for name, value in geometry.items():
        if not (value is None and name in {"crop", "tile"}):
            _integer(f"recipe.geometry.{name}", value, 0)
    return Recipe(**{**found, "layers": tuple(layers), "geometry": Geometry(**geometry)})


def _calibration(found: Any) -> Calibration:
    _keys("calibration", found, {"rate", "threshold", "display", "scores"})
    rate = _number("calibration.rate", found["rate"], 0, 1)
    scores = [_number("calibration.scores", score) for score in _listed("calibration.scores", found["scores"])]
    display = [_number("calibration.display", value) for value in _listed("calibration.display", found["display"])]
    if len(display) != 2 or not display[0] < display[1]:
        raise ValueError(f"calibration.display {display} is no range of values")
    if sorted(scores) != scores:
        raise ValueError("calibration.scores are not sorted")
    calibration = Calibration(np.asarray(scores, np.float64), rate, (display[0], display[1]))
    threshold = _number("calibration.threshold", found["threshold"])
    if threshold != calibration.threshold:
        raise ValueError(f"calibration.threshold {threshold} is not {calibration.threshold}, which its scores give")
    return calibration


def _check_provenance(found: Any) -> None:
    texts = {"created", "source", "layout", "weights", "engine", "images_digest"}
    numbers = {"images", "held_out", "skipped"}
    rates = {"calibration_share", "asked_false_alarm_rate"}
    _keys("provenance", found, {*texts, *numbers, *rates, "layers", "learned", "versions"})
    for name in texts:
        _text(f"provenance.{name}", found[name])
    for name in numbers:
        _integer(f"provenance.{name}", found[name], 0)
    for name in rates:
        if not (found[name] is None and name == "asked_false_alarm_rate"):
            _number(f"provenance.{name}", found[name], 0, 1)
    for layer in _listed("provenance.layers", found["layers"]):
        _keys("provenance.layers", layer, {"name", "channels", "height", "width"})
        _text("provenance.layers.name", layer["name"])
        for side in ("channels", "height", "width"):
            _integer(f"provenance.layers.{side}", layer[side], 1, 1 << 20)
    for name in ("learned", "versions"):
        if not isinstance(found[name], dict):
            raise ValueError(f"provenance.{name} is no object")
    for package, version in found["versions"].items():
        _text(f"provenance.versions.{package}", version)


def _keys(name: str, found: Any, expected: set[str]) -> None:
    if not isinstance(found, Mapping):
        raise ValueError(f"{name} is no object")
    for key in sorted(expected ^ found.keys()):
        raise ValueError(f"{name} has no {key}" if key in expected else f"{name} has an unknown {key!r}")


def _listed(name: str, found: Any) -> list[Any]:
    if not isinstance(found, list) or not found:
        raise ValueError(f"{name} is no list, or an empty one")
    return found


def _text(name: str, found: Any) -> str:
    if not isinstance(found, str) or len(found) > LONGEST_TEXT:
        raise ValueError(f"{name} is no text, or one of more than {LONGEST_TEXT} letters")
    return found


def _integer(name: str, found: Any, low: int, high: int = MOST) -> int:
    if type(found) is not int or not low <= found <= high:
        raise ValueError(f"{name} is not a whole number from {low} to {high}")
    return found


def _number(name: str, found: Any, low: float = -math.inf, high: float = math.inf) -> float:
    if type(found) is int and abs(found) > MOST:
        raise ValueError(f"{name} is larger than any number here")
    if type(found) not in (int, float) or not math.isfinite(found) or not low <= found <= high:
        raise ValueError(f"{name} is not a finite number" + (f" from {low:g} to {high:g}" if low > -math.inf else ""))
    return float(found)
