"""Virtual samples: shifted copies of images, from which a detector learns more variation if there are few images."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from blemish.errors import SettingError
from blemish.images.reading import Pixels

REACH = 0.04
"""The largest shift in each direction, as a share of the shorter side: 10 pixels of 256."""

DIGEST = 8
"""Bytes of an image's digest: among a million images, two have the same by chance once in 40 million times."""

MOST = 64
"""The largest number of copies of one image."""


@dataclass(frozen=True)
class Copies:
    """How many shifted copies are made of each image.

    The shifts depend only on the seed and the image's pixels, not on the order of images or on how they are divided.

    Attributes:
        count: copies of each image.
        seed: of the shifts.

    Raises:
        SettingError: the count is not between 0 and `MOST`.
    """

    count: int
    seed: int

    def __post_init__(self) -> None:
        if not 0 <= self.count <= MOST:
            raise SettingError(f"copies {self.count} is out of range; give 0 to {MOST}")

    def of(self, image: Pixels) -> list[Pixels]:
        """Returns shifted copies of an image (H, W, 3), each of its size; the border is filled with its edge pixels."""
        if not self.count:
            return []
        height, width = image.shape[:2]
        reach = max(1, round(REACH * min(height, width)))
        drawn = np.random.default_rng([self.seed, int.from_bytes(digest_of(image), "big")])
        padded = np.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode="edge")
        shifts = drawn.integers(0, 2 * reach + 1, (self.count, 2)).tolist()
        return [padded[down : down + height, across : across + width] for down, across in shifts]


def digest_of(image: Pixels) -> bytes:
    """Returns what identifies the pixels of an image: 8 bytes of BLAKE2b, of its shape too."""
    digest = new_digest(*image.shape[:2])
    digest.update(image.tobytes())
    return digest.digest()


def new_digest(height: int, width: int) -> hashlib.blake2b:
    """Returns the digest of an image of this shape, which takes in its pixels row by row."""
    return hashlib.blake2b(digest_size=DIGEST, salt=f"{height}x{width}".encode())
