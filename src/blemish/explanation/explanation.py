"""The explanation of an image's score: maps of layers and, if the detector has them, of components; and a picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.errors import SettingError
from blemish.images import Location, Pixels
from blemish.maps import Box, Panel, counted, in_view, outlined, overlay, resized, sheet, short, write_picture

Map = NDArray[np.float32]

COLUMNS = 6
"""Panels in a row of the picture."""


SCALE = "colours: dark is typical of good images, the middle is the most that good images reach"
"""What a picture says about the colours of its map and its layers."""

SCALES = ("fixed", "per-component", "cross-component", "score")


@dataclass(frozen=True)
class Cause:
    """One layer, or one component of a layer.

    Attributes:
        layer: its name, or several joined by `+` if a component mixes them.
        index: of the component: in `gaussian` by eigenvalue, smallest first; in `padim` the channel in its layer, or
            the principal component; `None` for a whole layer.
        map: (H, W) at the model's input size.
        at_peak: the map's value where the image's map is largest.
        share: how much of the image's map there comes from it, 1 for all of it; below 0 if it lowers the map; `None`
            if that is not defined. `explain_layers` defines it for layers; for a component it is `at_peak` divided by
            the map's value.
        display: map values drawn as the bottom and the top of the colours. For a layer they are set by good images, as
            for the image's map: the bottom is a typical value on good images, and the middle is one that good images do
            not exceed, except at the stated false-alarm rate.
    """

    layer: str
    index: int | None
    map: Map
    at_peak: float
    share: float | None
    display: tuple[float, float]

    @property
    def name(self) -> str:
        """Which layer or component it is, in words."""
        return f"layer {self.layer}" + ("" if self.index is None else f", component {self.index}")

    @property
    def value(self) -> str:
        """Its value at the peak, and its share."""
        return short(self.at_peak) + ("" if self.share is None else f", {100 * self.share:.0f} %")

    def __str__(self) -> str:
        return f"{self.name}: {self.value}" + (f" ({good_values(self.display)})" if self.index is None else "")


def good_values(display: tuple[float, float]) -> str:
    """Returns in words which values good images have, a typical one and the highest, from a map's colour scale."""
    bottom, top = display
    return f"good: about {short(bottom)}, up to {short((bottom + top) / 2)}"


@dataclass(frozen=True)
class Explanation:
    """Why an image has its score.

    Attributes:
        path: the file; `None` for an array or bytes.
        image: uint8 (H, W, 3), at the model's input size.
        map: (H, W), higher where more anomalous, as `predict` gives it.
        score, p_value: of the image.
        threshold, false_alarm_rate: the threshold that decided, and the rate that is stated of it.
        boxes: around what lies above the level for boxes, in pixels of the map, the highest peak first.
        display: map values drawn as the bottom and the top of the colours.
        peak: row and column of the map where it is largest.
        shown: height and width at which pictures show the image: in its own proportions, with as many pixels as its
            map.
        layers: a map for each. They add up to the map, except for `fre` and `fre-ae`, where they multiply to it: each
            is the layer's squared residual to the power of the layer's weight.
        components: those that were asked for, the one that adds the most at the peak first. All components together
            add up to the layers; empty if the detector has none, or torch is not installed.
        reconstruction: uint8 (H, W, 3), the reconstruction by a `vae` or `vae-grf`; `None` for other detectors, or if
            torch is not installed.
        tile: for a photograph in tiles, the first row and column of the tile that is explained, and its side; `None`
            for other images.
        offset, scale: rows and columns of the map plus `offset`, times `scale`, are the image's own.
    """

    path: Location | None
    image: Pixels
    map: Map
    score: float
    p_value: float
    threshold: float
    false_alarm_rate: float
    boxes: list[Box]
    display: tuple[float, float]
    peak: tuple[int, int]
    shown: tuple[int, int]
    layers: list[Cause]
    components: list[Cause]
    reconstruction: Pixels | None = None
    tile: tuple[int, int, int] | None = None
    offset: tuple[float, float] = (0.0, 0.0)
    scale: tuple[float, float] = (1.0, 1.0)

    def __repr__(self) -> str:
        """Returns the score, the place and what each layer gives there, without the arrays."""
        x, y = self.place
        first = (
            f"Explanation: score {short(self.score)}, threshold {short(self.threshold)}; map largest at x {x}, y {y}"
        )
        return "\n  ".join([first, *map(str, self.layers)])

    @property
    def boxes_in_image(self) -> list[Box]:
        """The boxes in the image's own pixels, as `predict` gives them; of a photograph in tiles, those of the tile."""
        return [box.moved(*self.offset, self.scale) for box in self.boxes]

    @property
    def place(self) -> tuple[int, int]:
        """x and y, in the image's own pixels, where the map is largest."""
        y, x = (
            int((place + 0.5 + moved) * by) for place, moved, by in zip(self.peak, self.offset, self.scale, strict=True)
        )
        return x, y

    def as_dict(self) -> dict[str, Any]:
        """Returns the explanation in numbers, without maps, as JSON can hold it; places are the image's own pixels."""

        def plain(cause: Cause) -> dict[str, Any]:
            told = {"layer": cause.layer, "index": cause.index, "at_peak": cause.at_peak, "share": cause.share}
            return {**told, "display": list(cause.display)}

        x, y = self.place
        return {
            "path": None if self.path is None else str(self.path),
            "score": self.score,
            "p_value": self.p_value,
            "is_anomaly": self.score > self.threshold,
            "threshold": self.threshold,
            "false_alarm_rate": self.false_alarm_rate,
            "boxes": [asdict(box) for box in self.boxes_in_image],
            **({} if self.tile is None else {"tile": {"x": self.tile[1], "y": self.tile[0], "side": self.tile[2]}}),
            "peak": {"x": x, "y": y},
            "display": list(self.display),
            "layers": [plain(cause) for cause in self.layers],
            "components": [plain(cause) for cause in self.components],
        }

    def picture(self, scale: str = "fixed") -> Pixels:
        """Returns a picture of the image, its map, the layers and the components, uint8 (h, w, 3).

        The map and each layer have a scale of their own, fixed by good images; see `Cause.display`.

        Args:
            scale: the top of the components' colours, which start at 0. `fixed`: that of their `display`, so that a
                good part is dark. The others depend on this image alone, and show bright spots on good parts too:
                `per-component`, the 99th percentile of each map; `cross-component`, that of all the maps shown
                together; `score`, that of the image's map.

        Raises:
            SettingError: another scale.
        """
        verdict = "anomalous" if self.score > self.threshold else "good"
        name = self.path.name if self.path else "image"
        title = f"{name}: {verdict}\nscore {self.score:.4g}, threshold {self.threshold:.4g}, p = {self.p_value:.3g}"
        title += f"\n{SCALE}"
        image, *layers, whole = self.panels()
        first = [image, whole, *layers]
        shown = [
            Panel(self._overlay(cause.map, (0.0, limit)), f"{cause.name}\n{cause.value}\ncolours: 0 to {short(limit)}")
            for cause, limit in zip(self.components, self._limits(scale), strict=True)
        ]
        return sheet([*_rows(first), *_rows(shown)], title)

    def panels(self) -> list[Panel]:
        """Returns the image, its reconstruction if any, the layers unless the only one is the map, and the map.

        The boxes are drawn on the map.
        """
        x, y = self.place
        largest = float(self.map[self.peak])
        boxes = in_view(self.boxes, self.map.shape, self.shown)
        whole = outlined(self._overlay(self.map, self.display), boxes)
        layers = [] if len(self.layers) == 1 else self.layers
        return [
            Panel(
                resized(self.image, self.shown),
                self.part,
            ),
            *(
                []
                if self.reconstruction is None
                else [Panel(resized(self.reconstruction, self.shown), "reconstruction")]
            ),
            *(
                Panel(
                    self._overlay(cause.map, cause.display),
                    f"{cause.name}\n{cause.value}\n{good_values(cause.display)}",
                )
                for cause in layers
            ),
            Panel(
                whole,
                f"map, {counted(self.boxes)}\n{short(largest)} at x {x}, y {y}\n{good_values(self.display)}",
            ),
        ]

    @property
    def part(self) -> str:
        """What of the image is explained, in words: all of it, or which tile."""
        if self.tile is None:
            return "image"
        top, left, side = self.tile
        return f"tile of {side} pixels at x {left}, y {top}"

    def _overlay(self, values: Map, display: tuple[float, float]) -> Pixels:
        return overlay(resized(self.image, self.shown), resized(values, self.shown), display)

    def _limits(self, scale: str) -> list[float]:
        """Returns for each component the value at the top of the colours."""
        maps = [cause.map for cause in self.components]
        if scale not in SCALES:
            raise SettingError(f"scale {scale!r} is not known; give one of {', '.join(SCALES)}")
        if scale == "fixed" or not maps:
            return [cause.display[1] for cause in self.components]
        if scale == "per-component":
            return [_percentile(values) for values in maps]
        return [_percentile(self.map if scale == "score" else np.stack(maps))] * len(maps)

    def save(self, path: str | Path, scale: str = "fixed") -> None:
        """Writes the picture in the format of its suffix: .png, .jpg, .jpeg or .webp. A picture by blemish is replaced.

        Raises:
            SettingError: the suffix or the scale is unknown.
            StorageError: another file is there, or the picture cannot be written.
        """
        write_picture(self.picture(scale), Path(path), force=True)

    def _repr_png_(self) -> bytes:
        """Returns the picture for display in a notebook."""
        buffer = io.BytesIO()
        Image.fromarray(self.picture()).save(buffer, "PNG")
        return buffer.getvalue()


def _rows(panels: Sequence[Panel]) -> list[Sequence[Panel]]:
    return [panels[start : start + COLUMNS] for start in range(0, len(panels), COLUMNS)]


def _percentile(values: Map) -> float:
    return max(float(np.percentile(values, 99)), 1e-12)
