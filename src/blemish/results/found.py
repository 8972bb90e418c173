"""One prediction, with everything that the formats need."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from blemish.errors import ImageError
from blemish.images import Georeference, Location, ground_of, read_size
from blemish.maps import Box
from blemish.model import Prediction


@dataclass(frozen=True)
class Found:
    """A prediction for a file.

    Attributes:
        prediction: with its map, if the model cuts photographs into tiles.
        path: of the image.
        name: its path below its source.
        own: the same, changed if needed so that no other image has it.
        box_p_values: for each box, the share of good images that show one with a peak at least as high.
        is_tiled: whether the map has the image's own size.
        picture: the file of its map in the folder, if there is one.
    """

    prediction: Prediction
    path: Location
    name: str
    own: str
    box_p_values: tuple[float, ...]
    is_tiled: bool = False
    picture: str | None = None

    @property
    def boxes(self) -> tuple[Box, ...]:
        """The boxes, in the image's own pixels."""
        return self.prediction.boxes

    @property
    def whole_path(self) -> str:
        """The image's address, or its path from the root of the file system."""
        return str(self.path.absolute()) if isinstance(self.path, Path) else self.path.url

    @cached_property
    def size(self) -> tuple[int, int] | None:
        """Height and width in pixels; `None` if the image cannot be read, or can no longer be read."""
        if self.prediction.error is not None:
            return None
        if self.is_tiled and self.prediction.map is not None:
            return self.prediction.map.shape[0], self.prediction.map.shape[1]
        try:
            return read_size(self.path)
        except ImageError:
            return None

    @cached_property
    def ground(self) -> Georeference | None:
        """Where its pixels lie on the ground, if it is a GeoTIFF that says so; else `None`."""
        return None if self.prediction.error is not None else ground_of(self.path)


def centre(box: Box) -> tuple[float, float]:
    """Returns row and column of a box's centre, from the outer corner of the image's first pixel."""
    return (box.top + box.bottom) / 2, (box.left + box.right) / 2
