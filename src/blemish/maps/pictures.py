"""Draws maps as pictures on a fixed scale, where a value has the same colour in every picture, and sheets of them."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from blemish.errors import SettingError
from blemish.images import Pixels
from blemish.maps.boxes import Box
from blemish.storage import check_free_file, new_file
from blemish.storage.folders import MADE_BY

Values = TypeVar("Values", NDArray[np.uint8], NDArray[np.float32])

GAP = 8
"""Pixels between tiles of a sheet."""

PICTURES = (".png", ".jpg", ".jpeg", ".webp")
"""Suffixes of pictures."""

OUTLINE = (0, 255, 255)
"""Colour of a box, one that the heat map does not have."""

CONTOUR = (120, 255, 80)
"""Colour of a line around what lies above the level for boxes."""

CLEAR, STRONGEST = 0.5, 0.5
"""Colours begin at this share of the scale, which good images do not exceed, and are mixed in by at most this share."""

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


def heat_layer(values: NDArray[np.float32], display: tuple[float, float]) -> Pixels:
    """Returns a map (H, W) as colours to lay over its image, RGBA uint8 (H, W, 4), on the scale of `heat_map`.

    It is transparent in the lower half of the scale, which good images do not exceed, and becomes opaque above.
    """
    bottom, top = display
    share = np.clip((values - bottom) / (top - bottom), 0, 1)
    opacity = np.minimum(3 * np.maximum(share - CLEAR, 0), STRONGEST)
    return np.dstack([heat_map(values, display), (255 * opacity).round().astype(np.uint8)])


def marked(
    image: Pixels, values: NDArray[np.float32], display: tuple[float, float], level: float, boxes: Sequence[Box]
) -> Pixels:
    """Returns `image` (H, W, 3) with what a model found: colours, contours and boxes; the rest stays as it is.

    Lines lie outside of what they enclose, so that what is small can still be seen.

    Args:
        image: uint8 RGB.
        values: its map, of any shape in the same proportions.
        display: the model's scale. Colours begin in its middle, which good images do not exceed.
        level: the level for boxes; a line is drawn around what lies above it.
        boxes: in pixels of `image`.
    """
    values = resized(np.asarray(values, np.float32), (image.shape[0], image.shape[1]))
    layer = heat_layer(values, display)
    share = layer[..., 3:].astype(np.float32) / 255
    mixed = np.asarray((image + share * (layer[..., :3].astype(np.float32) - image)).round(), np.uint8)
    width = max(1, round(max(image.shape[:2]) / 300))
    mixed[_edge(values <= level, width)] = CONTOUR
    return outlined(mixed, [_grown(box, width, image.shape) for box in boxes], width=width)


def _grown(box: Box, by: int, shape: tuple[int, ...]) -> Box:
    """Returns a box with so many pixels more on each side, as far as the picture (H, W, 3) goes."""
    bottom, right = min(box.bottom + by, shape[0]), min(box.right + by, shape[1])
    return replace(box, top=max(box.top - by, 0), left=max(box.left - by, 0), bottom=bottom, right=right)


def _edge(inside: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """Returns the outermost `width` pixels of the parts of a mask (H, W); the picture's border is no edge."""
    left = inside
    for _ in range(width):
        around = np.pad(left, 1, mode="edge")
        left = left & around[:-2, 1:-1] & around[2:, 1:-1] & around[1:-1, :-2] & around[1:-1, 2:]
    return inside & ~left


def overlay(image: Pixels, values: NDArray[np.float32], display: tuple[float, float], alpha: float = 0.5) -> Pixels:
    """Returns `image` (H, W, 3) blended with the heat map of `values` (H, W), whose share is `alpha`."""
    mixed = np.float32(1 - alpha) * image + np.float32(alpha) * heat_map(values, display)
    return np.asarray(mixed.round(), np.uint8)


def resized(values: Values, shape: tuple[int, int]) -> Values:
    """Returns a picture (H, W, 3) or a map (H, W) at another height and width, by straight lines between pixels."""
    if values.shape[:2] == shape:
        return values
    return np.asarray(Image.fromarray(values).resize(shape[::-1], Image.Resampling.BILINEAR))


def in_view(boxes: Sequence[Box], shape: tuple[int, ...], shown: tuple[int, ...]) -> list[Box]:
    """Returns boxes in pixels of a map of one shape (H, W) as they lie in a picture of it (h, w, ...)."""
    return [box.moved(0, 0, (shown[0] / shape[0], shown[1] / shape[1])) for box in boxes]


def outlined(image: Pixels, boxes: Sequence[Box], colour: tuple[int, int, int] = OUTLINE, width: int = 1) -> Pixels:
    """Returns `image` (H, W, 3) with a line around each box, which is in its pixels; `width` is that of the line."""
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    for box in boxes:
        right, bottom = max(box.left, box.right - 1), max(box.top, box.bottom - 1)
        draw.rectangle((box.left, box.top, right, bottom), outline=colour, width=width)
    return np.asarray(picture)


@dataclass(frozen=True)
class Panel:
    """One picture of a sheet, uint8 (H, W, 3), and the lines under it."""

    pixels: Pixels
    caption: str = ""


def sheet(rows: Sequence[Sequence[Panel]], title: str = "", side: float = 224) -> Pixels:
    """Returns rows of panels with their captions under a title, black on white, as one picture (H, W, 3).

    Args:
        rows: of panels, whose pictures may differ in shape.
        title: may have several lines.
        side: of a square, in pixels; every picture is enlarged or shrunk to as many pixels as it has.
    """
    font, large = (ImageFont.load_default(size) for size in (LETTERS, LETTERS * 1.5))
    pictures = [[_at_area(panel.pixels, side) for panel in row] for row in rows]
    heights = [max(picture.shape[0] for picture in row) for row in pictures]
    width = max(
        max(picture.shape[1], _text_width(panel.caption, font))
        for row, drawn in zip(rows, pictures, strict=True)
        for panel, picture in zip(row, drawn, strict=True)
    )
    captions = [1 + max(panel.caption.count("\n") if panel.caption else -1 for panel in row) for row in rows]
    line, title_line = LETTERS + 4, round(LETTERS * 1.5) + 6
    top = GAP + title_line * (title.count("\n") + 1 if title else 0)
    columns = max(len(row) for row in rows)
    whole = Image.new(
        "RGB",
        (
            max(GAP + columns * (width + GAP), 2 * GAP + _text_width(title, large)),
            top + sum(height + lines * line + GAP for height, lines in zip(heights, captions, strict=True)),
        ),
        "white",
    )
    draw = ImageDraw.Draw(whole)
    draw.multiline_text((GAP, GAP // 2), title, "black", large, spacing=6)
    for row, drawn, height, lines in zip(rows, pictures, heights, captions, strict=True):
        for column, (panel, picture) in enumerate(zip(row, drawn, strict=True)):
            left = GAP + column * (width + GAP)
            whole.paste(Image.fromarray(picture), (left, top))
            draw.multiline_text((left, top + height + 2), panel.caption, "black", font, spacing=4)
        top += height + lines * line + GAP
    return np.asarray(whole)


def _at_area(pixels: Pixels, side: float) -> Pixels:
    """Returns the picture with about as many pixels as a square of that side."""
    height, width = pixels.shape[:2]
    scale = side / math.sqrt(height * width)
    return resized(pixels, (max(1, round(height * scale)), max(1, round(width * scale))))


def _text_width(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> int:
    """Returns the pixels across that lines of text take."""
    return max(math.ceil(font.getbbox(line)[2]) for line in text.split("\n"))


def write_picture(pixels: Pixels, path: Path, *, force: bool = False) -> None:
    """Writes a picture (H, W, 3) with the mark of blemish, whole or not at all.

    Raises:
        SettingError: the suffix is not that of a picture.
        StorageError: the path exists and may not be replaced (see `storage.new_file`), or cannot be written.
    """
    check_picture(path, force=force)
    ending = path.suffix.lower()
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


def check_picture(path: Path, *, force: bool = False) -> None:
    """Raises what `write_picture` would raise, before the work starts."""
    if path.suffix.lower() not in PICTURES:
        raise SettingError(f"{path}: pictures end in {', '.join(PICTURES)}; give one of these")
    check_free_file(path, force=force)


def short(value: float) -> str:
    """Returns a number for a caption: three digits, or a whole number from 1000 on."""
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"
