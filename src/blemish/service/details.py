"""What the service publishes about a model."""

from __future__ import annotations

from typing import Any

from blemish.calibration import lowest_rate
from blemish.model import Model


def details_of(model: Model) -> dict[str, Any]:
    """Returns a model's kind, input and calibration as JSON values, with all its scores in ascending order."""
    recipe, calibration, geometry = model.recipe, model.calibration, model.recipe.geometry
    digests = calibration.digests
    return {
        "detector": recipe.detector,
        "backbone": recipe.backbone,
        "height": geometry.shape[0],
        "width": geometry.shape[1],
        "tile": geometry.tile,
        "images": len(model.inside),
        "threshold": model.threshold,
        "false_alarm_rate": calibration.rate,
        "lowest_rate": lowest_rate(len(calibration.scores)),
        "box_rate": calibration.box_rate,
        "display": list(calibration.display),
        "scores": calibration.scores.tolist(),
        "two_sided": bool(digests) and bool((model.inside.places(digests) < 0).all()),
    }
