"""What is made of a map: boxes around what lies above a threshold, and pictures."""

from blemish.maps.boxes import Box, find_boxes, matched
from blemish.maps.pictures import Tile, heat_map, overlay, sheet, short, write_picture

__all__ = [
    "Box",
    "Tile",
    "find_boxes",
    "heat_map",
    "matched",
    "overlay",
    "sheet",
    "short",
    "write_picture",
]
