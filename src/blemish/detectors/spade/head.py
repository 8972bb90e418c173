"""Nearest images and correspondences, as a module that scores.

Neighbours are found by one matrix product: the row y that is nearest to x has the largest x·y - |y|²/2. The mean of the
good images' rows is subtracted from both first, so that few digits are lost. The distances are then computed from the
differences x - y of the rows that were found, which loses no digits, and none is negative. Rounding can only choose the
other of two rows that are almost equally near.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from blemish.detectors.head import Head, Part, fixed
from blemish.detectors.spade.pyramid import Pyramid

TINY = 1e-12
"""The smallest distance by which is divided."""


class SPADEHead(Head):
    """The mean distance of each position's vector from its correspondences, and of the image from its neighbours.

    Cohen & Hoshen 2020: the score is that of their image retrieval, the map that of their alignment.

    Args:
        pyramid: which vectors are taken from the features.
        pooled: vectors (N, C) of the good images.
        joined: vectors (N, P, D) of their positions.
        neighbours: how many nearest images are searched; all, if there are fewer.
        correspondences: how many nearest positions are taken from these images together; all, if there are fewer.
    """

    def __init__(self, pyramid: Pyramid, pooled: Tensor, joined: Tensor, neighbours: int, correspondences: int) -> None:
        super().__init__()
        self.pyramid = pyramid
        self.grid = pyramid.grid
        self.parts = [Part((layer,)) for layer in pyramid.layers]
        self.neighbours = min(neighbours, len(pooled))
        self.correspondences = min(correspondences, self.neighbours * pyramid.positions)
        self.centre_of_images = fixed(pooled.mean(0))
        self.centre_of_positions = fixed(joined.mean((0, 1)))
        self.images = fixed(pooled - self.centre_of_images)  # (N, C)
        self.positions = fixed(joined - self.centre_of_positions)  # (N, P, D)
        self.offsets_of_images = fixed(self.images.square().sum(1) / 2)  # (N,)
        lengths = torch.linalg.vector_norm(self.positions, dim=2)  # (N, P)
        self.offsets_of_positions = fixed(lengths[:, None].square() / 2)  # (N, 1, P)

    def forward(self, features: tuple[Tensor, ...]) -> Tensor:
        """Returns the mean distance (B, h, w) of each position from its correspondences."""
        return self._distance(self._squared(features)).mean(2).reshape(-1, *self.grid)

    def layers(self, features: tuple[Tensor, ...]) -> list[Tensor]:
        """Returns each layer's share d_l² / d of the distance d; the shares add up to d, as the d_l² do to d²."""
        return self.map_and_layers(features)[1]

    def map_and_layers(self, features: tuple[Tensor, ...]) -> tuple[Tensor, list[Tensor]]:
        squared = self._squared(features)
        distance = self._distance(squared)
        shares = [layer / distance.clamp_min(TINY) for layer in squared]
        return distance.mean(2).reshape(-1, *self.grid), [own.mean(2).reshape(-1, *self.grid) for own in shares]

    @staticmethod
    def _distance(squared: list[Tensor]) -> Tensor:
        """Returns the distance (B, P, kappa) from each correspondence, by each layer's share of its square."""
        total: Tensor = sum(squared, start=torch.zeros(()))
        return total.sqrt()

    def score(self, features: tuple[Tensor, ...], coarse: Tensor, full: Tensor) -> Tensor:
        """Returns the mean distance (B,) of the pooled vector from those of its nearest images."""
        pooled, nearest = self._nearest(features)
        differences = pooled[:, None] - F.embedding(nearest, self.images)  # (B, K, C)
        return differences.square().sum(2).sqrt().mean(1)

    def _nearest(self, features: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Returns the centred pooled vectors (B, C), and the indices of their nearest images (B, K)."""
        pooled = self.pyramid.pooled(features) - self.centre_of_images
        closeness = pooled @ self.images.T - self.offsets_of_images  # (B, N)
        return pooled, closeness.topk(self.neighbours, dim=1).indices

    def _squared(self, features: tuple[Tensor, ...]) -> list[Tensor]:
        """Returns each layer's share (B, P, kappa) of the squared distances from the correspondences."""
        joined = self.pyramid.joined(features) - self.centre_of_positions  # (B, P, D)
        _, nearest = self._nearest(features)
        found = _search()(joined, nearest, self.positions, self.offsets_of_positions, self.correspondences)
        rows = F.embedding(found, self.positions.flatten(0, 1))  # (B, P, kappa, D)
        squares = (joined[:, :, None] - rows).square()
        return [layer.sum(3) for layer in torch.split(squares, list(self.pyramid.channels), dim=3)]


def find_correspondences(queries: Tensor, nearest: Tensor, gallery: Tensor, offsets: Tensor, count: int) -> Tensor:
    """Returns for each query its `count` nearest positions (B, P, count), as indices into all N · P.

    The nearest images are searched one after the other, so that only (B, P, P) products exist at a time.

    Args:
        queries: vectors (B, P, D).
        nearest: indices of the images to search (B, K).
        gallery: vectors (N, P, D) of all images.
        offsets: half their squared lengths (N, 1, P).
        count: at most K · P.
    """
    images, positions = nearest.shape[1], gallery.shape[1]
    best = torch.full([queries.shape[0], queries.shape[1], count], -3e38).to(queries)  # below any closeness
    found = torch.zeros_like(best).to(torch.int64)
    for index in range(images):
        image = nearest[:, index]
        normal = torch.index_select(gallery, 0, image)  # (B, P, D)
        closeness = torch.matmul(queries, normal.transpose(1, 2)) - torch.index_select(offsets, 0, image)
        own = torch.topk(closeness, min(count, positions), 2)
        best, chosen = torch.topk(torch.cat([best, own[0]], 2), count, 2)
        candidates = torch.cat([found, own[1] + image[:, None, None] * positions], 2)
        found = torch.gather(candidates, 2, chosen)
    return found


def _search() -> Any:
    """Returns `find_correspondences`; for a graph it is scripted, which keeps its loop.

    Unrolled by tracing, the products of each image would take memory of their own in OpenVINO.
    """
    jit: Any = torch.jit  # torch gives it no types
    return jit.script(find_correspondences) if jit.is_tracing() else find_correspondences
