"""The prediction of a model for one image."""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.errors import BlemishError
from blemish.images import Geometry, ImageLike, Location
from blemish.maps import Box, write_picture
from blemish.model.picture import LARGE, draw


@dataclass(frozen=True)
class Origin:
    """What a picture of a prediction is drawn from, besides the map.

    Attributes:
        image: the file, which is read again; or the array or the bytes that were given, which are kept.
        geometry: the model's.
        display: map values drawn as the bottom and the top of the colours.
        box_level: the map's value that contours are drawn at.
        boxes: in pixels of the map.
    """

    image: ImageLike
    geometry: Geometry
    display: tuple[float, float]
    box_level: float
    boxes: tuple[Box, ...]


@dataclass(frozen=True, eq=False)
class Prediction:
    """Score, verdict and map of one image, or an error. Two predictions are equal only if they are the same object.

    Attributes:
        path: the file, here or elsewhere; `None` for an array or bytes.
        score: higher is more anomalous; its unit is the detector's.
        p_value: the share of good images that score as high, estimated from those that calibrated the model.
        is_anomaly: whether the score exceeds the threshold; `None` if there is an error. `None` is not good: with
            `errors="keep"`, ask `if prediction.is_anomaly is not False: reject()`.
        threshold: the one that decided.
        false_alarm_rate: the rate that is stated of it.
        map: (H, W) at the model's input size, or at a photograph's own if it is cut into tiles; higher where more
            anomalous; `None` if there is an error.
        error: why there is no score (it is then not a number), or `None`.
        boxes: around what lies above the level for boxes, also on images that are not anomalous; in the image's own
            pixels, the highest peak first.
        is_known: whether the model was fitted on this very image, whose score then says little.
        digest: of the pixels as the model sees them, in hexadecimal; empty if there is an error.
        origin: what its picture is drawn from; `None` if there is an error, or if it was read from a file of results.
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
    origin: Origin | None = field(default=None, repr=False)

    def picture(self) -> Image.Image:
        """Returns the image with colours, contours and boxes where it differs from good ones, in RGB.

        The colours are on the model's fixed scale, so a good image stays as it is. The picture has the image's pixels,
        but at most 1,024 on the longer side, or 2,048 for a photograph in tiles. A file is read again for it; an array
        or bytes that were given are kept with the prediction.

        Raises:
            BlemishError: there is no map, or the file can no longer be read.
        """
        if self.map is None or self.origin is None:
            reason = "it was read from a file of results" if self.error is None else self.error
            raise BlemishError(f"{self.path or 'the image'}: has no map to draw ({reason})")
        seen = self.origin
        return Image.fromarray(
            draw(seen.image, self.map, seen.geometry, seen.display, seen.box_level, seen.boxes, LARGE)
        )

    def save(self, path: str | Path) -> None:
        """Writes the picture in the format of its suffix: .png, .jpg, .jpeg or .webp. A picture by blemish is replaced.

        Raises:
            SettingError: the suffix is unknown.
            StorageError: another file is there, or the picture cannot be written.
            BlemishError: there is no picture, as `picture` says.
        """
        write_picture(np.asarray(self.picture()), Path(path), force=True)

    def _repr_png_(self) -> bytes | None:
        """Returns the picture for display in a notebook; `None` if there is none, which shows the text instead."""
        try:
            picture = self.picture()
        except BlemishError:
            return None
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        return buffer.getvalue()

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
