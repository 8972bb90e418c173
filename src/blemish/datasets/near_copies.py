"""Finds images that are nearly the same: saved again, at another size, or with another brightness.

A perceptual hash of 64 bits cannot tell these from images of one product: of 292 different bottles of MVTec AD, 94 have
another one within a distance of 4. What is compared here is the fine detail that a set's images do not have in common:
edges and noise at 64x64 pixels, without their mean over all images, and then without what the images most like the two
explain of them. Between different images of one product the rest is another; saving an image again leaves it as it was.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from blemish.images import Pixels

SIDE = 64
"""Pixels of the side at which detail is compared."""

ALIKE = 0.97
"""Two images may be near copies if their detail, less the mean, correlates by more."""

OWN = 0.9
"""They are if what `SIMILAR` other images do not explain of it correlates by more.

It does for no two images of MVTec AD's bottles and hazelnuts and of Livestock's tiles; for ten pairs of Magnetic Tile
Defects, which show the same tile twice; and of 1350 solar cells (ELPV) for five pairs, cut from one crystal.
"""

SIMILAR = 10
"""Images that two are compared beside."""

CROWD = 10
"""More images than so many that all are alike have something in common that a mean over all does not take away."""

MOST = 5000
"""Images that are compared, at most, each with every other one."""

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
    """Returns whether two images have alike what the others most like them, no copies themselves, do not explain."""
    nearest = np.maximum(alike[one], alike[other])
    nearest[nearest > ALIKE] = -1
    basis, _ = np.linalg.qr(rows[np.argsort(nearest)[-min(SIMILAR, len(rows) // 3) :]].T)
    left = rows[[one, other]]
    left -= left @ basis @ basis.T
    return bool(left[0] @ left[1] > OWN * np.linalg.norm(left[0]) * np.linalg.norm(left[1]))


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
