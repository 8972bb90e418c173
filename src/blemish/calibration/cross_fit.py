"""Cross-fitting: the model learns from every image, and every image also calibrates it.

The images are divided into folds; the images of a fold are scored by a model of all others, and the threshold comes
from all scores together. The final model has learned from all images. CV+ (Barber, Candès, Ramdas & Tibshirani 2021,
theorem 4) bounds the rate of false alarms by about twice the stated one in the worst case, and by about the stated one
if the models of different folds agree; Hennhöfer & Preisach 2024 do this for anomaly detection. Here a new image is
scored by the final model and not by those of the folds, since there is one graph; it has seen more good images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from blemish.errors import SettingError

FOLDS = 10
"""The number of folds by default, unless a detector can leave out each image at once."""

FEW = 30
"""If there are fewer images than this, each is a fold of its own."""

LIMIT = 2000
"""Up to this many images, or tiles, a closed-form detector is cross-fitted by default. If there are more, holding out a
fifth gives 400 scores or more, and a model of the others is as good."""


def fold_count(images: int, asked: int | None = None) -> int:
    """Returns the number of folds for `images` different images: the one asked for, or 10; at most one for each image.

    Raises:
        SettingError: fewer than 2 folds are asked for.
    """
    if asked is not None and asked < 2:
        raise SettingError(f"folds {asked} is out of range; give 2 or more")
    return min(images, asked if asked is not None else FOLDS if images >= FEW else images)


def assign_folds(digests: Sequence[str], seed: int, asked: int | None = None) -> NDArray[np.int64]:
    """Returns the fold of each image (n,), counted from 0; folds differ in size by one different image at most.

    An image that is there twice has one fold. The folds depend on the seed and on what the images are, not on their
    order.

    Args:
        digests: of the images' pixels.
        seed: of the division.
        asked: how many folds; see `fold_count`.
    """
    order = sorted(set(digests), key=lambda digest: hashlib.blake2b(f"{seed} {digest}".encode()).digest())
    count = fold_count(len(order), asked)
    fold = {digest: number % count for number, digest in enumerate(order)}
    return np.asarray([fold[digest] for digest in digests], np.int64)
