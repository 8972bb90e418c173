"""The groups of MVTec AD's categories whose means papers give."""

from __future__ import annotations

from blemish.datasets import OBJECTS, TEXTURES

ALL = (*TEXTURES, *OBJECTS)
GROUPS = {"textures": TEXTURES, "objects": OBJECTS, "all": ALL}
MEAN = {"mean": ALL}
