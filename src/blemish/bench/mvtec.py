"""The fifteen categories of MVTec AD (Bergmann et al. 2019), and the paper's two groups."""

from __future__ import annotations

TEXTURES = ("carpet", "grid", "leather", "tile", "wood")
OBJECTS = (
    "bottle", "cable", "capsule", "hazelnut", "metal_nut", "pill", "screw", "toothbrush", "transistor", "zipper",
)  # fmt: skip
ALL = (*TEXTURES, *OBJECTS)

GROUPS = {"textures": TEXTURES, "objects": OBJECTS, "all": ALL}
MEAN = {"mean": ALL}
