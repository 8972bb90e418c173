"""The prediction of a model for one image."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.images import Location
from blemish.maps import Box


@dataclass(frozen=True)
class Prediction:
    """Score, verdict and map of one image, or an error.

    Attributes:
        path: the file, here or elsewhere; `None` for an array or bytes.
        score: higher is more anomalous; its unit is the detector's.
        p_value: the share of normal images that score as high, estimated from those that calibrated the model.
        is_anomaly: whether the score exceeds the threshold; `None` if there is an error.
        threshold: the one that decided.
        false_alarm_rate: the rate that is stated of it.
        map: (H, W) at the model's input size, or at a photograph's own if it is cut into tiles; higher where more
            anomalous; `None` if there is an error.
        error: why there is no score (it is then not a number), or `None`.
        boxes: around what lies above the level for boxes, whatever the verdict; in the image's own pixels, the highest
            peak first.
        is_known: whether the model was fitted on this very image, whose score then says little.
        digest: of the pixels as the model sees them, in hexadecimal; empty if there is an error.
    """

    path: Location | None
    score: float
    p_value: float
    is_anomaly: bool | None
    threshold: float
    false_alarm_rate: float
    map: NDArray[np.float32] | None = field(repr=False)
    error: str | None = None
    boxes: tuple[Box, ...] = ()
    is_known: bool = False
    digest: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Returns what JSON can hold: `path` and `error`, or all but the map and the error."""
        path = None if self.path is None else str(self.path)
        if self.error is not None:
            return {"path": path, "error": self.error}
        return {
            "path": path,
            "score": self.score,
            "p_value": self.p_value,
            "is_anomaly": self.is_anomaly,
            "threshold": self.threshold,
            "false_alarm_rate": self.false_alarm_rate,
            "boxes": [asdict(box) for box in self.boxes],
            "is_known": self.is_known,
        }
