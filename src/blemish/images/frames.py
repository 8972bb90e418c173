"""Images that a program holds in memory: arrays, tensors and Pillow's images, by one rule.

What is given becomes an image as a file would, and `reading` then treats it in the same way:

- Pillow's images: EXIF rotation, palettes, transparency and 16 bits are treated as in a file.
- Arrays have their channels last: (H, W), (H, W, 1), (H, W, 3), (H, W, 4). A tensor of torch's has them first, or last
  if its first dimension cannot be that of channels. Channels are red, green, blue, or with `bgr` blue, green, red.
- uint8 is taken as it is. 16-bit values v become round(v / 257), so that 65535 is white.
- Floating point of 0 to 1 is multiplied by 255; if the largest value of the image is 2 or more, its range is 0 to 255.
  Values that are not finite, below 0 or above 255 are refused. A largest value between 1 and 2 is refused too, since
  either range could be meant.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from blemish.errors import ImageError, SourceError, is_out_of_memory
from blemish.images.files import DECODING_ERRORS, check_pixels, damaged
from blemish.images.remote import Location, Remote

if TYPE_CHECKING:
    from typing_extensions import TypeIs

ROUNDING = 1e-3
"""How far floating-point values may lie outside their range, by rounding; they are clipped."""

EXPECTED = "expected uint8, uint16 or floating point of shape (H, W), (H, W, 3) or (H, W, 4)"

_LOADING = threading.Lock()
"""Held while an image of Pillow's is decoded, which two threads must not do to one image."""


@runtime_checkable
class HoldsArray(Protocol):
    """Anything that numpy takes for an array, such as a tensor of torch's."""

    def __array__(self) -> NDArray[Any]: ...


Given = str | os.PathLike[str] | Remote | bytes | bytearray | memoryview | Image.Image | HoldsArray
"""One source or image: a path or an address, the bytes of a file, Pillow's image, an array, or a tensor. An array or a
tensor of four dimensions is a batch of images."""


@dataclass(frozen=True)
class Frame:
    """An image in memory. It is converted when it is read, so that decoding threads do the work.

    Attributes:
        given: Pillow's image, an array or a tensor.
        bgr: whether its channels are blue, green, red.
    """

    given: Image.Image | HoldsArray
    bgr: bool = False

    @property
    def name(self) -> str:
        return "<image>" if isinstance(self.given, Image.Image) else "<array>"

    def image(self) -> Image.Image:
        """Returns it as Pillow's image, upright, 8 bits a channel if it was an array.

        Raises:
            ImageError: its shape, its type or its values are not those of an image, or it cannot be decoded.
        """
        if not isinstance(self.given, Image.Image):
            return Image.fromarray(np.ascontiguousarray(self._ordered(_levels(self._array()))))
        try:
            with _LOADING:
                self.given.load()
                upright = ImageOps.exif_transpose(self.given)
        except DECODING_ERRORS as error:
            raise damaged(self.name, error) from error
        if 0 in upright.size:
            raise ImageError(self.name, "has no pixels; give an image that has some")
        return upright

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the upright image. Raises `ImageError` as `image` does."""
        if isinstance(self.given, Image.Image):
            return self.image().size[::-1]
        height, width = self._array().shape[:2]
        return height, width

    def _array(self) -> NDArray[Any]:
        """Returns an array or a tensor as (H, W) or (H, W, C)."""
        array = _as_array(self.given)
        if _is_tensor(self.given) and array.ndim == 3 and array.shape[0] in (1, 3, 4):
            array = np.moveaxis(array, 0, -1)
        if array.ndim == 3 and array.shape[2] == 1:
            array = array[:, :, 0]
        if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)) or 0 in array.shape:
            raise ImageError(self.name, f"has shape {np.shape(array)} and type {array.dtype}; {EXPECTED}")
        check_pixels(self.name, array.shape[1], array.shape[0])  # one row may stand for all, so its memory says nothing
        return array

    def _ordered(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if not self.bgr or pixels.ndim == 2:
            return pixels
        return pixels[:, :, [2, 1, 0, *range(3, pixels.shape[2])]]


def each(given: Given | Iterable[Given], *, bgr: bool = False) -> Iterator[str | Location | bytes | Frame]:
    """Yields what is given one by one: paths and addresses, bytes of files, and frames.

    Batches and lists are taken apart. The arrays of a generator are copied, since a camera's driver may write its next
    frame into the same array while earlier ones still wait.

    Args:
        given: an image, a batch, or any number of them.
        bgr: whether the channels of arrays and tensors are blue, green, red.

    Raises:
        SourceError: it is none of these.
    """
    if isinstance(given, (str, Remote, bytes, Path)):
        yield given
    elif isinstance(given, os.PathLike):
        yield Path(os.fspath(given))
    elif isinstance(given, (bytearray, memoryview)):
        yield bytes(given)
    elif isinstance(given, Image.Image):
        yield Frame(given)
    elif isinstance(given, HoldsArray):
        if len(np.shape(given)) == 4:
            yield from (Frame(one, bgr) for one in given)  # type: ignore[attr-defined]
        else:
            yield Frame(given, bgr)
    elif hasattr(given, "read"):  # its lines are no images
        raise SourceError(
            f"{type(given).__name__} is an open file; give its path, or the bytes that its read() returns"
        )
    elif isinstance(given, Iterable) and not isinstance(given, Mapping):
        passing = not isinstance(given, (list, tuple))
        for one in given:
            if passing and isinstance(one, np.ndarray):
                one = one.copy()
            yield from each(one, bgr=bgr)
    else:
        raise SourceError(
            f"{type(given).__name__} is no image; give a path, an array, a tensor, an image of Pillow's, the bytes "
            "of a file, or several of these"
        )


def only(given: Given, *, bgr: bool = False) -> Location | bytes | Frame | str:
    """Returns one image. Raises `SourceError` if there are none or several."""
    found = each(given, bgr=bgr)
    first = next(found, None)
    if first is None or next(found, None) is not None:
        raise SourceError(f"there is not one image but {'none' if first is None else 'several'}; give a single one")
    return first


def _is_tensor(given: object) -> TypeIs[Any]:
    """Whether it is a tensor of torch's, which is not imported for this."""
    kind = getattr(sys.modules.get("torch"), "Tensor", None)  # not there yet while another thread imports torch
    return kind is not None and isinstance(given, kind)


def _as_array(given: object) -> NDArray[Any]:
    if not _is_tensor(given):
        return np.asarray(given)
    try:
        tensor = given.detach().cpu().resolve_conj().resolve_neg()
        return np.asarray((tensor.float() if tensor.is_floating_point() else tensor).numpy())
    except (RuntimeError, TypeError) as error:  # it is sparse or quantised, or has no values
        if is_out_of_memory(error):
            raise
        kind = f"type {given.dtype}, layout {given.layout} and device {given.device}"
        raise ImageError(
            "<array>", f"is a tensor of {kind}; give a dense one with values, such as x.to_dense()"
        ) from None


def _levels(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Returns an array as uint8, by the rule at the top of this file."""
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind == "u" and values.dtype.itemsize == 2:
        return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if values.dtype.kind != "f":
        raise ImageError("<array>", f"has type {values.dtype}; {EXPECTED}, such as image.astype('uint8')")
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise ImageError("<array>", "has values that are not finite; give numbers from 0 to 1, or from 0 to 255")
    if low < -ROUNDING or high > 255 + ROUNDING or 1 + ROUNDING < high < 2:
        raise ImageError(
            "<array>",
            f"has values from {low:.4g} to {high:.4g}; give numbers from 0 to 1, or from 0 to 255, or clip them",
        )
    wide = np.float64 if values.dtype.itemsize > 4 else np.float32
    scaled = np.multiply(values, 255.0 if high < 2 else 1.0, dtype=wide)
    return np.asarray(np.rint(scaled.clip(0, 255)), np.uint8)
