"""From maps to boxes around what lies above a threshold, to pictures, and to pages."""

from blemish.maps.boxes import Box, find_boxes, matched
from blemish.maps.pages import page_template
from blemish.maps.pictures import Panel, heat_map, overlay, resized, sheet, short, write_picture

__all__ = [
    "Box",
    "Panel",
    "find_boxes",
    "heat_map",
    "matched",
    "overlay",
    "page_template",
    "resized",
    "sheet",
    "short",
    "write_picture",
]
