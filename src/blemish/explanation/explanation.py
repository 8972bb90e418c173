"""Why an image has its score: maps of layers, and of components where a detector has them, and a picture of them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.errors import SettingError
from blemish.images import Pixels
from blemish.maps import Panel, overlay, sheet, short, write_picture

if TYPE_CHECKING:
    pass

Map = NDArray[np.float32]

COLUMNS = 6
"""Tiles to a row of the picture."""


SCALES = ("fixed", "per-component", "cross-component", "score")


@dataclass(frozen=True)
class Cause:
    """One layer, or one component of a layer.

    Attributes:
        layer: its name, or several joined by `+` where a component mixes them.
        index: the component's: of `gaussian` by eigenvalue, smallest first; of `padim` the channel in its layer, or the
            principal component; `None` of a whole layer.
        map: (H, W) at the model's input size.
        at_peak: the map's value where the image's map is largest.
        share: `at_peak` as a share of the image's map there; `None` where maps do not add up.
    """

    layer: str
    index: int | None
    map: Map
    at_peak: float
    share: float | None

    def __str__(self) -> str:
        name = f"layer {self.layer}" + ("" if self.index is None else f", component {self.index}")
        return f"{name}\n{short(self.at_peak)}" + ("" if self.share is None else f", {100 * self.share:.0f} %")


@dataclass(frozen=True)
class Explanation:
    """Why an image has its score.

    Attributes:
        path: the file; `None` for an array.
        image: uint8 (H, W, 3), at the model's input size.
        map: (H, W), higher where more anomalous, as `predict` gives it.
        score, p_value: of the image.
        threshold: the model's.
        display: map values drawn as the bottom and the top of the colours; layers that add up to the map are drawn from
            0 to as much.
        peak: row and column where the map is largest.
        layers: a map each. They add up to the map, but for `fre`, whose map is their weighted geometric mean.
        components: those that were asked for, the one that adds the most at the peak first. All there are add up to the
            layers; empty where a detector has none.
        reconstruction: uint8 (H, W, 3), what a `vae` makes of the image; `None` of other detectors.
        tile: of a photograph that is cut, the first row and column of the tile that this is about, and its side;
            `None` of other images.
        limit: what a component's map exceeds at one position in a hundred on good images, if it is like the others and
            normally distributed: held-out images tell what the map is there, and so what a component is on average.
    """

    path: Path | None
    image: Pixels
    map: Map
    score: float
    p_value: float
    threshold: float
    display: tuple[float, float]
    peak: tuple[int, int]
    layers: list[Cause]
    components: list[Cause]
    limit: float
    reconstruction: Pixels | None = None
    tile: tuple[int, int, int] | None = None

    def as_dict(self) -> dict[str, Any]:
        """What it says in numbers, as JSON can hold it."""

        def plain(cause: Cause) -> dict[str, Any]:
            return {"layer": cause.layer, "index": cause.index, "at_peak": cause.at_peak, "share": cause.share}

        return {
            "path": None if self.path is None else str(self.path),
            "score": self.score,
            "p_value": self.p_value,
            "is_anomaly": self.score > self.threshold,
            **({} if self.tile is None else {"tile": list(self.tile)}),
            "peak": list(self.peak),
            "layers": [plain(cause) for cause in self.layers],
            "components": [plain(cause) for cause in self.components],
        }

    def picture(self, scale: str = "fixed") -> Pixels:
        """The image, its map, the layers and the components, uint8 (h, w, 3).

        Args:
            scale: what the components' colours end at, from 0. `fixed`: twice what a component of a good image exceeds
                at one position in a hundred, so a good part is dark. The others go by this image alone, and show bright
                spots on good parts too: `per-component`, the 99th percentile of each map; `cross-component`, that of
                all the maps shown together; `score`, that of the image's map.

        Raises:
            SettingError: another scale.
        """
        verdict = "anomalous" if self.score > self.threshold else "normal"
        name = self.path.name if self.path else "image"
        title = f"{name}: {verdict}\nscore {self.score:.4g}, threshold {self.threshold:.4g}, p = {self.p_value:.3g}"
        image, *layers, whole = self.panels()
        first = [image, whole, *layers]
        shown = [
            Panel(overlay(self.image, cause.map, (0.0, limit)), str(cause))
            for cause, limit in zip(self.components, self._limits(scale), strict=True)
        ]
        return sheet([*_rows(first), *_rows(shown)], title)

    def panels(self) -> list[Panel]:
        """The image, the reconstruction if there is one, the layers, unless one alone is the map, and the map."""
        row, column = self.peak
        bottom, top = self.display
        display = (0.0, top - bottom) if self.adds_up else self.display
        layers = [] if self.adds_up and len(self.layers) == 1 else self.layers
        return [
            Panel(self.image, "image" if self.tile is None else "tile at {}, {}".format(*self.tile)),
            *([] if self.reconstruction is None else [Panel(self.reconstruction, "reconstruction")]),
            *(Panel(overlay(self.image, cause.map, display), str(cause)) for cause in layers),
            Panel(overlay(self.image, self.map, self.display), f"map\nlargest at {row}, {column}"),
        ]

    def _limits(self, scale: str) -> list[float]:
        """For each component the value at the top of the colours."""
        maps = [cause.map for cause in self.components]
        if scale not in SCALES:
            raise SettingError(f"scale {scale!r} is not known; give one of {', '.join(SCALES)}")
        if scale == "fixed" or not maps:
            return [2 * self.limit] * len(maps)
        if scale == "per-component":
            return [_percentile(values) for values in maps]
        return [_percentile(self.map if scale == "score" else np.stack(maps))] * len(maps)

    @property
    def adds_up(self) -> bool:
        """Whether the layers add up to the map."""
        return all(cause.share is not None for cause in self.layers)

    def save(self, path: str | Path, scale: str = "fixed") -> None:
        """Writes the picture, as its name ends: .png, .jpg or .webp. A picture that blemish made is replaced.

        Raises:
            SettingError: another ending, or an unknown scale.
            StorageError: another file is there, or it cannot be written.
        """
        write_picture(self.picture(scale), Path(path), force=True)

    def _repr_png_(self) -> bytes:
        """A notebook's display."""
        buffer = io.BytesIO()
        Image.fromarray(self.picture()).save(buffer, "PNG")
        return buffer.getvalue()


def _rows(panels: Sequence[Panel]) -> list[Sequence[Panel]]:
    return [panels[start : start + COLUMNS] for start in range(0, len(panels), COLUMNS)]


def _percentile(values: Map) -> float:
    return max(float(np.percentile(values, 99)), 1e-12)
