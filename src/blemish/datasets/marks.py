"""Ground truth that is not one file with one mask: several masks, one frame of an array file, boxes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blemish.datasets.arrays import read_frame
from blemish.errors import ImageError
from blemish.images import Geometry, Location, fit_mask, read_mask, read_size
from blemish.maps import Box

Rectangle = tuple[float, float, float, float]
"""Top, left, bottom and right of a box."""


@dataclass(frozen=True)
class Masks:
    """One or several mask files of one image, whose values are numbers of classes: all that is not zero is defect."""

    files: tuple[Location, ...]

    def __str__(self) -> str:
        return str(self.files[0])

    def read(self, image: Location, geometry: Geometry | None) -> NDArray[np.bool_]:
        """Returns where any of the masks marks a defect. Raises `ImageError` as `read_mask` does."""
        found = read_mask(self.files[0], image, geometry, any_value=True)
        for file in self.files[1:]:
            found = found | read_mask(file, image, geometry, any_value=True)
        return found


@dataclass(frozen=True)
class MaskFrame:
    """One frame of an npy file with the masks of a video, (frames, H, W); all that is not zero is defect."""

    file: Path
    frame: int

    def __str__(self) -> str:
        return f"{self.file}, frame {self.frame}"

    def read(self, image: Location, geometry: Geometry | None) -> NDArray[np.bool_]:
        """Returns where the frame marks a defect. Raises `ImageError` if it cannot be read or has another size."""
        return fit_mask(read_frame(self.file, self.frame) != 0, self, image, geometry)


@dataclass(frozen=True)
class TrueBoxes:
    """Boxes around the defects of one image.

    Attributes:
        file: where they stand.
        boxes: in units of `size`, within it.
        size: height and width of the image in pixels; 1 and 1 where they are given as shares of the image.
    """

    file: Path
    boxes: tuple[Rectangle, ...]
    size: tuple[int, int] = (1, 1)

    def __str__(self) -> str:
        return str(self.file)

    def read(self, image: Location, geometry: Geometry | None) -> NDArray[np.bool_]:
        """Returns the filled boxes. Raises `ImageError` if they were drawn on an image of another size."""
        shape = geometry.shape if geometry is not None else read_size(image)
        if self.size != (1, 1):
            found = shape if geometry is None else read_size(image)
            if found != self.size:
                raise ImageError(
                    self.file,
                    f"has boxes for {self.size[0]}x{self.size[1]} and {image.name} is {found[0]}x{found[1]}; "
                    "give the images that the boxes were drawn on",
                )
        marked = np.zeros(shape, bool)
        for box in self.placed(shape, geometry):
            marked[box.top : box.bottom, box.left : box.right] = True
        return marked

    def placed(self, shape: tuple[int, int], geometry: Geometry | None) -> list[Box]:
        """Returns the boxes in pixels of a map, each at least one pixel; those that a crop cuts off are left out.

        Args:
            shape: height and width of the map.
            geometry: how the image becomes the map; `None` if the map has the image's size.
        """
        whole = shape if geometry is None else (geometry.height, geometry.width)
        down, across = (0, 0) if geometry is None else geometry.margins
        rows, columns = whole[0] / self.size[0], whole[1] / self.size[1]
        found = []
        for top, left, bottom, right in self.boxes:
            first, last = _pixels(top * rows - down, bottom * rows - down, shape[0])
            start, end = _pixels(left * columns - across, right * columns - across, shape[1])
            if first < last and start < end:
                found.append(Box(first, start, last, end, (last - first) * (end - start), 1.0))
        return found


def _pixels(low: float, high: float, side: int) -> tuple[int, int]:
    """Returns the first pixel and the one after the last, of those of a side; none if it is not touched."""
    if high <= 0 or low >= side:
        return 0, 0
    first = min(max(round(low), 0), side - 1)
    return first, max(min(round(high), side), first + 1)
