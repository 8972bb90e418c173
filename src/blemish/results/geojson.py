"""Predictions as GeoJSON: one feature for each image, its outline, and one for each box.

GeoJSON (RFC 7946) has only longitude and latitude. Coordinates are not transformed here: for images in EPSG:4326 they
are longitude and latitude. For images in another coordinate system they are those of that system, which the member
`crs` names, as in GeoJSON of 2008; GDAL and QGIS read it. For images without a place they are pixels: x is the column
and y is minus the row, as QGIS shows an image without a place; `crs` is then null.
"""

from __future__ import annotations

import json
from typing import IO, Any

from blemish.results.found import Found, centre

LONGITUDE_LATITUDE = "EPSG:4326"
PIXELS = "pixels"


class GeoJson:
    """Writes one collection of features. The first image that can be read decides its coordinate system.

    Features of images in another system have no geometry; the property `crs` names the system of each.
    """

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._crs: str | None = None
        self._count = 0
        file.write('{"type": "FeatureCollection", "features": [')

    def add(self, found: Found) -> None:
        """Writes the features of an image."""
        told = found.prediction
        if told.error is not None or found.size is None:
            error = told.error or "can no longer be read"
            return self._feature(None, {"kind": "image", "image": found.name, "error": error})
        crs = PIXELS if found.ground is None else found.ground.crs
        self._crs = self._crs or crs
        verdict = {
            "image": found.name,
            "score": told.score,
            "p_value": told.p_value,
            "is_anomaly": told.is_anomaly,
            "crs": crs,
        }
        self._feature(
            self._polygon(found, (0, 0, *found.size)), {"kind": "image", **verdict, "boxes": len(found.boxes)}
        )
        for number, (box, p_value) in enumerate(zip(found.boxes, found.box_p_values, strict=True), 1):
            middle, ground = centre(box), found.ground
            about: dict[str, Any] = {
                "kind": "box",
                **verdict,
                "box": number,
                "top": box.top,
                "left": box.left,
                "bottom": box.bottom,
                "right": box.right,
                "centre_row": middle[0],
                "centre_column": middle[1],
                "area": box.area,
                "peak": box.peak,
                "box_p_value": p_value,
            }
            if ground is not None:
                x, y = ground.place(*middle)
                about |= {
                    "x": x,
                    "y": y,
                    "ground_area": ground.area(box.area, *middle),
                    "ground_unit": ground.area_unit,
                }
            self._feature(self._polygon(found, (box.top, box.left, box.bottom, box.right)), about)
        return None

    def close(self) -> None:
        """Writes the coordinate system and the end of the document."""
        told = ""
        if self._crs in {PIXELS, "unknown"}:
            told = ', "crs": null'
        elif self._crs not in {None, LONGITUDE_LATITUDE}:
            name = f"urn:ogc:def:crs:{str(self._crs).replace(':', '::')}"
            told = f', "crs": {json.dumps({"type": "name", "properties": {"name": name}})}'
        self._file.write(f"]{told}}}\n")

    def _polygon(self, found: Found, sides: tuple[int, int, int, int]) -> dict[str, Any] | None:
        """Returns the outline of a rectangle of pixels, anticlockwise; `None` in another coordinate system."""
        ground = found.ground
        if (PIXELS if ground is None else ground.crs) != self._crs:
            return None
        top, left, bottom, right = sides
        corners = [(bottom, left), (bottom, right), (top, right), (top, left)]
        ring = [(column, -row) if ground is None else ground.place(row, column) for row, column in corners]
        if sum(x * b - a * y for (x, y), (a, b) in zip(ring, [*ring[1:], ring[0]], strict=True)) < 0:
            ring.reverse()
        return {"type": "Polygon", "coordinates": [[*map(list, ring), list(ring[0])]]}

    def _feature(self, geometry: dict[str, Any] | None, properties: dict[str, Any]) -> None:
        self._count += 1
        feature = {"type": "Feature", "geometry": geometry, "properties": properties}
        self._file.write(",\n" * (self._count > 1) + json.dumps(feature, allow_nan=False))
