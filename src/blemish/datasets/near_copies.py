"""Finds images that are nearly the same: saved again, at another size, or with another brightness.

A perceptual hash of 64 bits cannot tell these from different images of one product: of 292 different bottles of MVTec
AD, 94 have another one within a distance of 4. So the fine detail is compared that the images of a set do not share:
edges and noise at 64x64 pixels, minus their mean over all images, and minus what the most similar other images explain.
What remains differs between different images of one product; saving an image again hardly changes it.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from blemish.images import Pixels

SIDE = 64
"""Pixels of the side at which detail is compared."""

ALIKE = 0.97
"""Two images may be near copies if the correlation of their detail, without the mean, is higher than this."""

OWN = 0.9
"""They are near copies if the correlation of what `SIMILAR` other images do not explain is higher than this.

That is so for no two images of MVTec AD's bottles and hazelnuts and of Livestock's tiles; for ten pairs of Magnetic
Tile Defects, which show the same tile twice; and for five pairs of 1350 solar cells (ELPV), cut from one crystal.
"""

SIMILAR = 10
"""The number of other images that explain what two images share with the rest of the set."""

CROWD = 10
"""A group of more similar images than this shares something that the mean over all images does not remove."""

MOST = 5000
"""The largest number of images that are compared, each with every other one."""

FLAT = 0.1
"""An image whose detail has a smaller root mean square than this, in grey levels of 255, is not compared."""

BLOCK = 512
"""The number of images that are compared with all others in one product."""

Detail = NDArray[np.float16]


def detail_of(image: Pixels) -> Detail:
    """Returns the fine detail (SIDE * SIDE,) of an image (H, W, 3): each grey value minus the mean around it.

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

    With fewer than three images none are found, since nothing shows what a set's images have in common.

    Args:
        details: of different images, (N, SIDE * SIDE), N at most `MOST`.
    """
    if len(details) < 3:
        return []
    rows = details.astype(np.float32)
    rows -= rows.mean(0)
    rows = _unit(rows)
    alike = np.empty((len(rows), len(rows)), np.float16)
    for start in range(0, len(rows), BLOCK):
        alike[start : start + BLOCK] = rows[start : start + BLOCK] @ rows.T
    pairs = [(one, other) for one, other in np.argwhere(alike > ALIKE).tolist() if one < other]
    return sorted(pair for pair in _without_crowds(pairs, details) if _own_is_alike(*pair, rows, alike))


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns rows (n, d) of length 1; one that is as good as flat becomes zero."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(length > FLAT * SIDE, length, np.inf), np.float32)


def _own_is_alike(one: int, other: int, rows: NDArray[np.float32], alike: NDArray[np.float16]) -> bool:
    """Returns whether two images still agree in what the most similar other images, without copies, do not explain."""
    nearest = np.maximum(alike[one], alike[other])
    nearest[nearest > ALIKE] = -1
    basis, _ = np.linalg.qr(rows[np.argsort(nearest)[-min(SIMILAR, len(rows) // 3) :]].T)
    left = rows[[one, other]]
    left -= left @ basis @ basis.T
    return bool(left[0] @ left[1] > OWN * np.linalg.norm(left[0]) * np.linalg.norm(left[1]))


def _without_crowds(pairs: list[tuple[int, int]], details: NDArray[np.float16]) -> list[tuple[int, int]]:
    """Returns the pairs; within a group of more than `CROWD` images, those that also agree without the group's mean.

    Such a group may be the images of one of two cameras.
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
