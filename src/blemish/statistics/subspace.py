"""The principal subspace of vectors far longer than they are many: a truncated basis, with the energy it threw away.

Everything goes through a small Gram matrix (rows × rows), never through a (D, D) one. While there is room, the centred
vectors themselves are kept and nothing is lost; when the room is full they are replaced by their leading singular
directions, scaled by their singular values. This is the merge-and-truncate scheme for a mergeable SVD (Hall, Marshall
& Martin 2000; Ross, Lim, Lin & Yang 2008).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from blemish.errors import ShapeError

ROOM = 1024
"""Rows kept at most, by default: data sets up to about this size are treated exactly."""

PART = 1 << 13
"""Columns taken at a time, so that what is computed beside the rows stays small."""


@dataclass(frozen=True)
class Principal:
    """A finished subspace.

    Attributes:
        mean: (D,).
        rows: (r, D), orthogonal: the leading directions times their singular values.
        values: (r,), float64, the energy of each direction: the squared lengths of the rows, largest first.
        energy: of all vectors, the sum of their squared distances from the mean.
    """

    mean: Tensor
    rows: Tensor
    values: Tensor
    energy: float

    @property
    def kept(self) -> float:
        """The share of the energy inside the subspace."""
        return float(self.values.sum()) / self.energy if self.energy else 1.0

    @property
    def basis(self) -> Tensor:
        """Orthonormal columns (D, r)."""
        return (self.rows / self.values.sqrt()[:, None].float()).T


@dataclass
class Subspace:
    """Count, mean (D,), rows (k, D) whose scatter is the vectors' but for the `lost` energy, and the room for rows.

    Rows and mean are float32, as the features are; a Gram matrix is summed and solved in float64. While nothing was
    truncated, the energy is right to 1e-5 and the subspace within an angle of 0.01 of an exact one, where the spectrum
    has a gap; after truncation the energy still adds up to 1e-4.
    """

    count: int
    mean: Tensor
    rows: Tensor
    lost: float
    room: int
    gram: Tensor = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.float64), repr=False)
    """Products of the first rows with one another; the others are not known yet."""

    @classmethod
    def empty(cls, dim: int, room: int = ROOM) -> Subspace:
        """The identity of `merge`."""
        return cls(0, torch.zeros(dim), torch.zeros(0, dim), 0.0, room)

    def update(self, vectors: Tensor) -> Subspace:
        """Takes in vectors (n, D), in place.

        Raises:
            ShapeError: another dimension than the statistic's.
        """
        if vectors.ndim != 2 or vectors.shape[1] != len(self.mean):
            raise ShapeError(f"expected vectors of shape (n, {len(self.mean)}), got {tuple(vectors.shape)}")
        for part in torch.split(vectors, max(1, self.room // 4)) if len(vectors) else ():
            rows = part.to("cpu", torch.float32)
            mean = rows.mean(0)
            rows = rows - mean
            mean += rows.mean(0)  # what single precision lost of it
            self._take_in(len(rows), mean, rows, 0.0)
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
        merged = Subspace(self.count, self.mean, self.rows.clone(), self.lost, max(self.room, other.room), self.gram)
        merged._take_in(other.count, other.mean, other.rows, other.lost)
        return merged

    def _take_in(self, count: int, mean: Tensor, rows: Tensor, lost: float) -> None:
        """Another sample's statistics into these."""
        total = self.count + count
        delta = mean - self.mean
        step = delta * (self.count * count / total) ** 0.5
        added = rows if self.count == 0 else torch.cat([rows, step[None]])
        self.rows = _appended(self.rows, added, self.room)
        self.mean = self.mean + delta * (count / total)
        self.count = total
        self.lost += lost
        if len(self.rows) > self.room:
            self.truncate(self.room // 2)

    def truncate(self, rank: int, variance: float = 1.0) -> None:
        """Leaves fewer rows, in place: the leading singular directions times their singular values.

        At most `rank` of them, and no more than it takes to keep the share `variance` of the variance.
        """
        values, directions = self._spectrum()
        rank = min(rank, self._rank(values, variance))
        mixing = directions[:, :rank].T.float()
        for part in torch.split(self.rows, PART, dim=1):
            part[:rank] = mixing @ part
        self.rows = self.rows[:rank]
        self.lost += float(values[rank:].sum())
        self.gram = torch.diag(values[:rank])

    def finish(self, variance: float) -> Principal:
        """The fewest leading directions that keep the share `variance` of the variance, in [0, 1].

        The energy lost on the way counts as outside; where it alone exceeds what may be left out, all directions that
        are left are taken. Rows that `truncate` left are handed on as they are, not copied.
        """
        values, directions = self._spectrum()
        rank = self._rank(values, variance)
        energy = float(values.sum()) + self.lost
        mixing = directions[:, :rank].T.float()  # (r, k)
        if torch.equal(mixing, torch.eye(*mixing.shape)):
            return Principal(self.mean, self.rows[:rank], values[:rank], energy)
        rows = torch.empty(rank, len(self.mean))
        for part, whole in zip(torch.split(rows, PART, dim=1), torch.split(self.rows, PART, dim=1), strict=True):
            torch.mm(mixing, whole, out=part)
        return Principal(self.mean, rows, values[:rank], energy)

    def _rank(self, values: Tensor, variance: float) -> int:
        total = float(values.sum()) + self.lost
        if total == 0:
            return 0
        shares = torch.cumsum(values, 0) / total
        return min(int((shares < variance).sum()) + 1, len(values))

    def _spectrum(self) -> tuple[Tensor, Tensor]:
        """Eigenvalues (m,) of the rows' Gram matrix, largest first, those above rounding; and eigenvectors (k, m)."""
        gram = self.products()
        values = gram.diagonal()
        directions = torch.eye(len(gram), dtype=torch.float64)
        if not torch.equal(gram, torch.diag(values)) or bool((values.diff() > 0).any()):
            values, directions = torch.linalg.eigh(gram)
            values, directions = values.flip(0), directions.flip(1)
        above = values > 16 * torch.finfo(torch.float32).eps * values[:1].clamp_min(0)
        return values[above], directions[:, above]

    def products(self) -> Tensor:
        """The rows' Gram matrix; a product of two rows is computed once, for rows only change when they are truncated.

        Short products in float32, their sum in float64.
        """
        known, count = len(self.gram), len(self.rows)
        if known == count:
            return self.gram
        gram = torch.zeros(count, count, dtype=torch.float64)
        gram[:known, :known] = self.gram
        for start in range(known, count, 256):
            stop = min(start + 256, count)
            for part in torch.split(self.rows[:stop], 2 * PART, dim=1):
                gram[start:stop, :stop] += part[start:] @ part.T
            gram[:start, start:stop] = gram[start:stop, :start].T
        self.gram = gram
        return gram


def _appended(rows: Tensor, added: Tensor, room: int) -> Tensor:
    """Both as one tensor: behind the first in its own memory if that has space left, else in memory of such size."""
    count, dim = len(rows) + len(added), rows.shape[1]
    space = rows.untyped_storage().nbytes() // rows.element_size() - rows.storage_offset()
    if space >= count * dim and rows.is_contiguous():
        both = rows.as_strided((count, dim), (dim, 1))
    else:
        both = torch.empty(max(room + room // 4 + 1, count), dim)[:count]  # what is not used yet takes no memory
        both[: len(rows)] = rows
    both[len(rows) :] = added
    return both
