"""Predictions made by hand, of real files, by a model of which there are only the parts that results need."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from blemish.calibration import Calibration
from blemish.images import Geometry
from blemish.maps import Box
from blemish.model import Prediction

SCORES = np.arange(1.0, 20.0)  # 19 good images, 5 % of false alarms


def made_up_model() -> Any:
    calibration = Calibration(SCORES, np.zeros(19), SCORES, rate=0.05, box_rate=0.1)
    return SimpleNamespace(
        calibration=calibration, threshold=calibration.threshold, recipe=SimpleNamespace(geometry=Geometry(64, 64))
    )


def predicted(path: Path, score: float, boxes: tuple[Box, ...] = (), error: str | None = None) -> Prediction:
    """A prediction whose map is high in its boxes; the file is of 100×200 pixels unless it is there."""
    if error is None and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((100, 200, 3), 90, np.uint8)).save(path)
    if error is not None:
        return Prediction(path, np.nan, np.nan, None, 19.0, 0.05, None, error)
    values = np.zeros((64, 64), np.float32)
    for box in boxes:
        rows, columns = (
            slice(box.top * 64 // 100, box.bottom * 64 // 100),
            slice(box.left * 64 // 200, box.right * 64 // 200),
        )
        values[rows, columns] = box.peak
    (p_value,) = made_up_model().calibration.p_values([score])
    return Prediction(path, score, float(p_value), score > 19.01, 19.0, 0.05, values, None, boxes)


FIRST, SECOND = Box(10, 20, 30, 60, 700, 40.0), Box(50, 100, 60, 130, 280, 18.5)
