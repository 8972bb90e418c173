"""Makes boxes, pictures and pages from maps."""

from blemish.maps.boxes import Box, counted, find_boxes, matched
from blemish.maps.layers import LayerMap
from blemish.maps.pages import page_template
from blemish.maps.pictures import (
    Panel,
    check_picture,
    heat_layer,
    heat_map,
    in_view,
    marked,
    outlined,
    overlay,
    resized,
    sheet,
    short,
    write_picture,
)
from blemish.maps.view import shrunk, view

__all__ = [
    "Box",
    "LayerMap",
    "Panel",
    "check_picture",
    "counted",
    "find_boxes",
    "heat_layer",
    "heat_map",
    "in_view",
    "marked",
    "matched",
    "outlined",
    "overlay",
    "page_template",
    "resized",
    "sheet",
    "short",
    "shrunk",
    "view",
    "write_picture",
]
