"""Finds images that are nearly the same: saved again, at another size, or with another brightness.

A perceptual hash of 64 bits cannot tell these from images of one product: of 292 different bottles of MVTec AD, 94 have
another one within a distance of 4. What is compared here is the fine detail that a set's images do not have in common:
edges and noise at 64x64 pixels, without their mean over all images. Between different images of one product it is
another; saving an image again leaves it as it was.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from blemish.images import Pixels

SIDE = 64
"""Pixels of the side at which detail is compared."""

ALIKE = 0.97
"""Images are near copies if their detail correlates by more.

At most 0.961 between any two of MVTec AD's bottles, 0.24 of its hazelnuts and 0.14 of Livestock's tiles. Of Magnetic Tile
Defects ten pairs are above, which show the same tile twice. Of 80 images of these sets, 80 were found again at JPEG's
quality 75, and 79 at half the size; fewer with another brightness, where much of what they show is common to all.
"""

CROWD = 10
"""More images than so many that all are alike have something in common that a mean over all does not take away."""

MOST = 5000
"""Images that are compared, at most: all pairs of them take a few seconds."""

FLAT = 0.1
"""Root mean square of the detail, of 255, below which an image has none to compare."""

BLOCK = 512
"""Images that are compared with all others at once."""

Detail = NDArray[np.float16]


def detail_of(image: Pixels) -> Detail:
    """Returns the fine detail of an image (H, W, 3), (SIDE * SIDE,): what a pixel's grey differs from its neighbours'.

    Height and width are multiples of `SIDE`.
    """
    height, width = image.shape[:2]
    grey = image.mean(2, dtype=np.float32)
    small = grey.reshape(SIDE, height // SIDE, SIDE, width // SIDE).mean((1, 3))
    padded = np.pad(small, 1, mode="edge")
    around = sum(padded[down : down + SIDE, across : across + SIDE] for down in range(3) for across in range(3))
    return np.asarray((small - around / 9).astype(np.float16).ravel())


def near_copies(details: NDArray[np.float16]) -> list[tuple[int, int]]:
    """Returns the pairs of images that are nearly the same, by number, the smaller one first; in order.

    Among fewer than three images none can be told, since nothing says what they have in common.

    Args:
        details: of different images, (N, SIDE * SIDE), N at most `MOST`.
    """
    if len(details) < 3:
        return []
    rows = details.astype(np.float32)
    rows -= rows.mean(0)
    size = np.sqrt((rows**2).mean(1, keepdims=True))
    rows /= np.where(size > FLAT, size, np.inf) * SIDE
    found: list[tuple[int, int]] = []
    for start in range(0, len(rows), BLOCK):
        first, second = np.nonzero(rows[start : start + BLOCK] @ rows.T > ALIKE)
        found += [
            (one, other) for one, other in zip((first + start).tolist(), second.tolist(), strict=True) if one < other
        ]
    return sorted(_without_crowds(found, details))


def _without_crowds(pairs: list[tuple[int, int]], details: NDArray[np.float16]) -> list[tuple[int, int]]:
    """Returns the pairs, those within a group of more than `CROWD` only if they are alike by the group's own mean too.

    Such a group may be of the images of one of two cameras.
    """
    groups: dict[int, list[int]] = {}
    for pair in pairs:
        one, other = (groups.setdefault(image, [image]) for image in pair)
        if one is not other:
            one += other
            groups.update(dict.fromkeys(other, one))
    inside: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for pair in pairs:
        inside[id(groups[pair[0]])].append(pair)
    kept: list[tuple[int, int]] = []
    for group in {id(group): group for group in groups.values()}.values():
        if len(group) <= CROWD or len(group) == len(details):
            kept += inside[id(group)]
            continue
        members = sorted(group)
        kept += [(members[one], members[other]) for one, other in near_copies(details[members])]
    return kept
