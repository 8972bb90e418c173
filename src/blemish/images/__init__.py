"""Reads files, bytes, arrays and photographs as uint8 RGB images of a model's input size."""

from blemish.images.ahead import decode_ahead, decoding_peak, waiting
from blemish.images.copies import Copies
from blemish.images.frames import Frame, Given, each, only
from blemish.images.geometry import Geometry
from blemish.images.georeference import Georeference, ground_of, read_georeference
from blemish.images.photographs import count_tiles, open_photograph, read_tile, read_tiles
from blemish.images.proportions import in_proportion, input_shape
from blemish.images.reading import (
    Header,
    ImageLike,
    Pixels,
    fit_mask,
    located,
    marks_anything,
    name_of,
    read_format,
    read_header,
    read_image,
    read_mask,
    read_proportion,
    read_size,
)
from blemish.images.remote import Location, Remote
from blemish.images.tiling import Mosaic, Place, Tiling

__all__ = [
    "Copies",
    "Frame",
    "Geometry",
    "Georeference",
    "Given",
    "Header",
    "ImageLike",
    "Location",
    "Mosaic",
    "Pixels",
    "Place",
    "Remote",
    "Tiling",
    "count_tiles",
    "decode_ahead",
    "decoding_peak",
    "each",
    "fit_mask",
    "ground_of",
    "in_proportion",
    "input_shape",
    "located",
    "marks_anything",
    "name_of",
    "only",
    "open_photograph",
    "read_format",
    "read_georeference",
    "read_header",
    "read_image",
    "read_mask",
    "read_proportion",
    "read_size",
    "read_tile",
    "read_tiles",
    "waiting",
]
