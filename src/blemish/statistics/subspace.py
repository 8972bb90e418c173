"""The principal subspace of vectors far longer than they are many: a truncated basis, with the energy it threw away.

Everything goes through small Gram matrices (rows × rows), never through a (D, D) one. While there is room, the centred
vectors themselves are kept and nothing is lost; when the room is full they are replaced by their leading singular
directions, scaled by their singular values. This is the merge-and-truncate scheme for a mergeable SVD (Hall, Marshall
& Martin 2000; Ross, Lim, Lin & Yang 2008).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from blemish.errors import ShapeError

ROOM = 1024
"""Rows kept at most, by default: data sets up to about this size are treated exactly."""


@dataclass(frozen=True)
class Principal:
    """A finished subspace: mean (D,), orthonormal basis (D, r), the share of energy in it, and all energy.

    Energy is the sum of squared distances from the mean over all vectors.
    """

    mean: Tensor
    basis: Tensor
    kept: float
    energy: float


@dataclass
class Subspace:
    """Count, mean (D,), blocks of rows (·, D) whose scatter is the vectors' but for the `lost` energy, and the room.

    Rows and mean are float32, as the features are; a Gram matrix is summed and solved in float64. While nothing was
    truncated, the energy is right to 1e-5 and the subspace within an angle of 0.01 of an exact one, where the spectrum
    has a gap; after truncation the energy still adds up to 1e-4.
    """

    count: int
    mean: Tensor
    blocks: list[Tensor]
    lost: float
    room: int

    @classmethod
    def empty(cls, dim: int, room: int = ROOM) -> Subspace:
        """The identity of `merge`."""
        return cls(0, torch.zeros(dim), [], 0.0, room)

    @property
    def rows(self) -> Tensor:
        """All rows (k, D), joined."""
        if len(self.blocks) != 1:
            self.blocks = [torch.cat([self.mean.new_zeros(0, len(self.mean)), *self.blocks])]
        return self.blocks[0]

    def update(self, vectors: Tensor) -> Subspace:
        """Takes in vectors (n, D).

        Raises:
            ShapeError: another dimension than the statistic's.
        """
        if vectors.ndim != 2 or vectors.shape[1] != len(self.mean):
            raise ShapeError(f"expected vectors of shape (n, {len(self.mean)}), got {tuple(vectors.shape)}")
        if len(vectors) == 0:
            return self
        rows = vectors.to("cpu", torch.float32)
        mean = rows.double().mean(0).float()
        both = self.merge(Subspace(len(rows), mean, [rows - mean], 0.0, self.room))
        self.count, self.mean, self.blocks, self.lost = both.count, both.mean, both.blocks, both.lost
        return self

    def merge(self, other: Subspace) -> Subspace:
        """Statistics of both samples together: both scatters and one row for the distance of the means (Chan's term).

        Raises:
            ShapeError: the two have different dimensions.
        """
        if self.mean.shape != other.mean.shape:
            raise ShapeError(f"cannot merge subspaces of {len(self.mean)} and of {len(other.mean)} dimensions")
        if self.count == 0 or other.count == 0:
            return other if self.count == 0 else self
        count = self.count + other.count
        delta = other.mean - self.mean
        step = delta * (self.count * other.count / count) ** 0.5
        merged = Subspace(
            count=count,
            mean=self.mean + delta * (other.count / count),
            blocks=[*self.blocks, *other.blocks, step[None]],
            lost=self.lost + other.lost,
            room=max(self.room, other.room),
        )
        if sum(len(block) for block in merged.blocks) > merged.room:
            return merged.truncated(merged.room // 2)
        return merged

    def truncated(self, rank: int, variance: float = 1.0) -> Subspace:
        """The same with fewer rows: the leading singular directions times their singular values.

        At most `rank` of them, and no more than it takes to keep the share `variance` of the variance.
        """
        values, directions = self._spectrum()
        rank = min(rank, self._rank(values, variance))
        rows = directions[:, :rank].T.float() @ self.rows
        return Subspace(self.count, self.mean, [rows], self.lost + float(values[rank:].sum()), self.room)

    def finish(self, variance: float) -> Principal:
        """The fewest leading directions that keep the share `variance` of the variance, in [0, 1].

        The energy lost on the way counts as outside; where it alone exceeds what may be left out, all directions that
        are left are taken.
        """
        values, directions = self._spectrum()
        rank = self._rank(values, variance)
        total = float(values.sum()) + self.lost
        if rank == 0:
            return Principal(self.mean, torch.zeros(len(self.mean), 0), 1.0 if total == 0 else 0.0, total)
        raw = self.rows.T @ (directions[:, :rank] / values[:rank].sqrt()).float()  # (D, r)
        overlap = sum((part.T @ part).double() for part in torch.split(raw, 1 << 14))
        # Rounding leaves the columns not quite orthonormal; one Cholesky step on the (r, r) overlap mends that.
        factor = torch.linalg.cholesky(overlap).float()
        basis = torch.linalg.solve_triangular(factor, raw.T, upper=False).T.contiguous()
        return Principal(self.mean, basis, float(values[:rank].sum()) / total, total)

    def _rank(self, values: Tensor, variance: float) -> int:
        total = float(values.sum()) + self.lost
        if total == 0:
            return 0
        shares = torch.cumsum(values, 0) / total
        return min(int((shares < variance).sum()) + 1, len(values))

    def _spectrum(self) -> tuple[Tensor, Tensor]:
        """Eigenvalues (m,) of the rows' Gram matrix, largest first, those above rounding; and eigenvectors (k, m)."""
        rows = self.rows
        gram = torch.zeros(len(rows), len(rows), dtype=torch.float64)
        for part in torch.split(rows, 1 << 14, dim=1):  # short products in float32, their sum in float64
            gram += (part @ part.T).double()
        values, directions = torch.linalg.eigh(gram)
        values, directions = values.flip(0), directions.flip(1)
        above = values > 16 * torch.finfo(torch.float32).eps * values[:1].clamp_min(0)
        return values[above], directions[:, above]
