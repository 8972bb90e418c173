"""Maps as pictures on a fixed scale, where a value has the same colour in every picture; and sheets of pictures."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from blemish.errors import SettingError
from blemish.images import Pixels
from blemish.storage import new_file
from blemish.storage.folders import MADE_BY

GAP = 8
"""Pixels between tiles of a sheet."""

PICTURES = (".png", ".jpg", ".jpeg", ".webp")
"""Suffixes of pictures."""

LETTERS = 13
"""Height of letters under tiles, in pixels; titles are half as high again."""

# The colour map `inferno` (Smith & van der Walt, public domain) at 17 equal steps; straight lines between them stay
# within 7 of 255 of it.
_INFERNO = np.array(
    [
        [0, 0, 4], [11, 7, 36], [33, 12, 74], [61, 9, 101], [87, 16, 110], [113, 25, 110], [138, 34, 106],
        [163, 44, 97], [188, 55, 84], [210, 70, 68], [228, 90, 49], [241, 115, 29], [249, 142, 9], [252, 172, 17],
        [249, 203, 53], [242, 234, 105], [252, 255, 164],
    ]
)  # fmt: skip
_PLACES = np.linspace(0, len(_INFERNO) - 1, 4096)
_COLOURS = (
    np.stack([np.interp(_PLACES, range(len(_INFERNO)), channel) for channel in _INFERNO.T], -1).round().astype("u1")
)


def heat_map(values: NDArray[np.float32], display: tuple[float, float]) -> Pixels:
    """Returns a map (H, W) as colours, uint8 (H, W, 3): dark at or below the bottom of the scale, bright at its top."""
    bottom, top = display
    share = np.clip((values - bottom) / (top - bottom), 0, 1)
    return np.asarray(_COLOURS[(share * (len(_COLOURS) - 1)).round().astype(np.uint16)])


def overlay(image: Pixels, values: NDArray[np.float32], display: tuple[float, float], alpha: float = 0.5) -> Pixels:
    """Returns `image` (H, W, 3) blended with the heat map of `values` (H, W), whose share is `alpha`."""
    mixed = np.float32(1 - alpha) * image + np.float32(alpha) * heat_map(values, display)
    return np.asarray(mixed.round(), np.uint8)


@dataclass(frozen=True)
class Panel:
    """One picture of a sheet, uint8 (H, W, 3), and the lines under it."""

    pixels: Pixels
    caption: str = ""


def sheet(rows: Sequence[Sequence[Panel]], title: str = "", side: int = 224) -> Pixels:
    """Returns rows of panels with their captions under a title, black on white, as one picture (H, W, 3).

    Args:
        rows: of panels, all of one shape.
        title: may have several lines.
        side: longer side of a panel, in pixels; its picture is enlarged or shrunk to it.
    """
    height, width = next(panel.pixels.shape[:2] for row in rows for panel in row)
    scale = side / max(height, width)
    height, width = round(height * scale), round(width * scale)
    font, large = (ImageFont.load_default(size) for size in (LETTERS, LETTERS * 1.5))
    captions = [1 + max(panel.caption.count("\n") if panel.caption else -1 for panel in row) for row in rows]
    line, title_line = LETTERS + 4, round(LETTERS * 1.5) + 6
    top = GAP + title_line * (title.count("\n") + 1 if title else 0)
    columns = max(len(row) for row in rows)
    picture = Image.new(
        "RGB",
        (
            max(GAP + columns * (width + GAP), 2 * GAP + round(large.getbbox(max(title.split("\n"), key=len))[2])),
            top + sum(height + lines * line + GAP for lines in captions),
        ),
        "white",
    )
    draw = ImageDraw.Draw(picture)
    draw.multiline_text((GAP, GAP // 2), title, "black", large, spacing=6)
    for row, lines in zip(rows, captions, strict=True):
        for column, panel in enumerate(row):
            left = GAP + column * (width + GAP)
            picture.paste(Image.fromarray(panel.pixels).resize((width, height), Image.Resampling.BILINEAR), (left, top))
            draw.multiline_text((left, top + height + 2), panel.caption, "black", font, spacing=4)
        top += height + lines * line + GAP
    return np.asarray(picture)


def write_picture(pixels: Pixels, path: Path, *, force: bool = False) -> None:
    """Writes a picture (H, W, 3) with the mark of blemish, whole or not at all.

    Raises:
        SettingError: the suffix is not that of a picture.
        StorageError: the path exists and may not be replaced (see `storage.new_file`), or cannot be written.
    """
    ending = path.suffix.lower()
    if ending not in PICTURES:
        raise SettingError(f"{path}: pictures end in {', '.join(PICTURES)}; give one of these")
    options: dict[str, Any] = {"comment": MADE_BY}
    if ending == ".png":
        options = {"pnginfo": PngInfo()}
        options["pnginfo"].add_text("Software", MADE_BY)
    elif ending == ".webp":
        options = {"exif": Image.Exif()}
        options["exif"][0x0131] = MADE_BY  # Software
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, Image.registered_extensions()[ending], **options)
    with new_file(path, force=force) as temporary:
        temporary.write_bytes(buffer.getvalue())


def short(value: float) -> str:
    """Returns a number for a caption: three digits, or a whole number from 1000 on."""
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"
