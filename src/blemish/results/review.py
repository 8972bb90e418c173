"""A page on which a person accepts or rejects verdicts and boxes: one file, with pictures in a folder beside it.

It needs no server and loads nothing from elsewhere. Pictures are loaded when they are shown, so a page of 10,000 images
opens as fast as one of ten. Decisions stay in the browser until they are saved as JSON, which `read_review` reads.
"""

from __future__ import annotations

import json
import secrets
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.maps import heat_layer, shrunk
from blemish.model import Model
from blemish.model.picture import LARGE, LONGEST, jpeg, photograph, uncropped
from blemish.results.found import Found

PAGE, PICTURES = "review.html", "review"
ROWS, HEAD = "/*rows*/", "/*head*/"
"""Places of the data in the page's template."""


class Review:
    """Writes `review.html` and, in the folder `review`, each photograph and the colours to show over it.

    Args:
        model: the model that predicted.
        file: for the page.
        folder: of the page.
    """

    def __init__(self, model: Model, file: IO[str], folder: Path) -> None:
        self._model, self._folder = model, folder
        self._count, self._unreadable = 0, 0
        self._paths: set[str] = set()
        page = resources.files("blemish.results").joinpath(PAGE).read_text("utf-8")
        before, self._after = page.split(ROWS)
        self._file = file
        head = {"id": secrets.token_hex(8), "threshold": model.threshold, "rate": model.calibration.rate}
        self._file.write(before.replace(HEAD, _embedded(head)))

    def add(self, found: Found) -> None:
        """Writes an image's row and its pictures; an image that came before has its row already."""
        told = found.prediction
        if found.whole_path in self._paths:
            return
        self._paths.add(found.whole_path)
        if told.error is not None or told.map is None or found.size is None:
            self._unreadable += 1
            return
        shown, heat = self._pictures(found, told.map)
        row = {
            "name": found.name,
            "path": found.whole_path,
            "score": told.score,
            "p": told.p_value,
            "anomalous": told.is_anomaly,
            "size": found.size,
            "boxes": [[box.top, box.left, box.bottom, box.right] for box in found.boxes],
            "image": shown,
            "heat": heat,
        }
        self._file.write(",\n" * (self._count > 0) + _embedded(row))
        self._count += 1

    def close(self) -> None:
        """Writes the end of the page."""
        self._file.write(self._after.replace("/*unreadable*/", str(self._unreadable)))

    def _pictures(self, found: Found, values: NDArray[np.float32]) -> tuple[str, str | None]:
        """Writes the photograph and its colours, if there are any; returns how the page refers to them."""
        model = self._model
        name = PurePosixPath(PICTURES, found.own)
        (self._folder / name).parent.mkdir(parents=True, exist_ok=True)
        longest = LARGE if model.recipe.geometry.tile is None else LONGEST
        (self._folder / name.with_suffix(".jpg")).write_bytes(jpeg(photograph(found.path, longest)))
        bottom, top = model.calibration.display
        if values.max() <= (bottom + top) / 2:
            return quote(str(name.with_suffix(".jpg"))), None
        whole, _ = uncropped(model.recipe.geometry, model.calibration.display[0], values, [])
        layer = heat_layer(shrunk(whole, LARGE), model.calibration.display)
        Image.fromarray(layer).save(self._folder / name.with_suffix(".png"), compress_level=3)
        return quote(str(name.with_suffix(".jpg"))), quote(str(name.with_suffix(".png")))


def _embedded(value: Any) -> str:
    """Returns JSON that is safe inside a script element."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
