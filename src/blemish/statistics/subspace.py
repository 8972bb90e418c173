"""The principal subspace of few long vectors: a truncated basis, and the energy that truncation lost.

All is computed from a small Gram matrix (rows × rows), never through a (D, D) one. While there is room, the centred
vectors themselves are kept and nothing is lost; when the room is full they are replaced by their leading singular
directions, scaled by their singular values. This is the merge-and-truncate scheme for a mergeable SVD (Hall, Marshall
& Martin 2000; Ross, Lim, Lin & Yang 2008).
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from blemish.errors import ShapeError
from blemish.statistics.memory import uninitialised
from blemish.statistics.statistic import Statistic
from blemish.statistics.threads import one_thread

ROOM = 1024
"""Rows kept at most, by default: data sets up to about this size are treated exactly."""

PART = 1 << 13
"""Columns taken at a time, so that temporary results stay small."""


@dataclass(frozen=True)
class Principal:
    """A finished subspace: the leading directions as mixtures of rows, so that no row is copied.

    Attributes:
        mean: (D,).
        rows: (k, D), the statistic's own.
        mixing: (r, k) in float64: `mixing @ rows` is an orthonormal basis (r, D).
        kept: the share of the energy that lies in the subspace.
        energy: sum of the squared distances of all vectors from the mean.
    """

    mean: Tensor
    rows: Tensor
    mixing: Tensor
    kept: float
    energy: float

    @property
    def basis(self) -> Tensor:
        """Orthonormal columns (D, r)."""
        return (self.mixing.float() @ self.rows).T


@dataclass
class Subspace(Statistic):
    """Count, mean (D,), rows (k, D) with the vectors' scatter except for the `lost` energy, and the room for rows.

    Rows and mean are float32, as the features are; a Gram matrix is summed and solved in float64. While nothing was
    truncated, the energy is right to 1e-5 and the subspace within an angle of 0.01 of an exact one, where the spectrum
    has a gap; after truncation the energy still adds up to 1e-4.
    """

    precision: ClassVar[torch.dtype] = torch.float64
    """The type of the numbers that eigenvectors are computed in."""

    mean: Tensor
    rows: Tensor
    lost: float
    room: int
    gram: Tensor = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.float64), repr=False)
    """Products of the first rows with one another; those of later rows are computed when they are needed."""

    def __post_init__(self) -> None:
        # (count, k): the mixture of rows that each centred vector is; `None` after a truncation.
        self._places: Tensor | None = None if self.count else torch.zeros(0, 0, dtype=torch.float64)
        self._of_vectors: Tensor | None = None

    @classmethod
    def empty(cls, dim: int, room: int = ROOM) -> Subspace:
        """Returns the identity of `merge`."""
        return cls(0, torch.zeros(dim), torch.zeros(0, dim), 0.0, room)

    def update(self, vectors: Tensor) -> Subspace:
        """Takes in vectors (n, D), in place.

        Raises:
            ShapeError: the vectors have another dimension than the statistic.
        """
        if vectors.ndim != 2 or vectors.shape[1] != len(self.mean):
            raise ShapeError(f"expected vectors of shape (n, {len(self.mean)}), got {tuple(vectors.shape)}")
        for part in torch.split(vectors, max(1, self.room // 4)) if len(vectors) else ():
            part = part.to("cpu", torch.float32)
            mean = part.mean(0)
            rows = self._extend(len(part))
            torch.sub(part, mean, out=rows)
            rest = rows.mean(0)  # what single precision lost of the mean
            rows -= rest
            self._join(len(part), mean + rest, torch.eye(len(part), dtype=torch.float64))
        return self

    def merge(self, other: Subspace) -> Subspace:
        """Returns the statistic of both samples together: the rows of both, and one for the distance of the means.

        That row is Chan's term (Chan, Golub & LeVeque 1983, eq. 2.1). The result is exact up to rounding, unless there
        would be more rows than the larger of the two rooms. Then each is truncated first, to half of the room or to
        what the other leaves of it: this takes a quarter of the time of truncating both together, and keeps more rows.

        Raises:
            ShapeError: the two have different dimensions.
        """
        if self.mean.shape != other.mean.shape:
            raise ShapeError(f"cannot merge subspaces of {len(self.mean)} and of {len(other.mean)} dimensions")
        if self.count == 0 or other.count == 0:
            return deepcopy(other if self.count == 0 else self)
        room = max(self.room, other.room)
        if len(self.rows) + len(other.rows) + 1 > room:
            rows, others = len(self.rows), len(other.rows)
            return self._cut(max(room // 2, room - 1 - others), room).merge(
                other._cut(max((room - 1) // 2, room - 1 - rows), room)
            )
        merged = Subspace(self.count, self.mean, self.rows, self.lost, room, self.gram)
        merged._places = self._places
        merged._reserve(len(self.rows) + len(other.rows) + 1)
        merged._extend(len(other.rows)).copy_(other.rows)
        merged._know(other.gram)
        merged.lost += other.lost
        merged._join(other.count, other.mean, other._places)
        return merged

    @property
    def is_exact(self) -> bool:
        """Whether nothing was truncated and each vector is still a known mixture of rows, as `leave_out` needs it."""
        return self._places is not None

    def leave_out(self, members: Tensor, batch: Tensor) -> Subspace:
        """Returns the statistic of the other vectors, which can be finished. The long rows are shared, not copied.

        Every centred vector is a mixture of the rows, so those of the others are too, about their own mean.

        Raises:
            ShapeError: some vectors were truncated already.
        """
        if self._places is None:
            raise ShapeError(f"{self.count} vectors were truncated, so none of them can be left out")
        others = torch.ones(self.count, dtype=torch.bool)
        others[members] = False
        places = self._places[others]
        shift = places.mean(0)
        mean = self.mean + shift.float() @ self.rows
        gram = self._products_of_vectors(self._places)[others][:, others]
        gram = gram - gram.mean(0) - gram.mean(1)[:, None] + gram.mean()
        return _Rest(len(places), mean, self.rows, self.lost, self.room, gram, places - shift)

    def _products_of_vectors(self, places: Tensor) -> Tensor:
        """Returns the Gram matrix (count, count) of the centred vectors, kept until another vector comes."""
        if self._of_vectors is None or len(self._of_vectors) != self.count:
            self._of_vectors = places @ self.products() @ places.T
        return self._of_vectors

    def tensors(self) -> dict[str, Tensor]:
        """Returns the fields by name, with the products of all rows."""
        self.products()
        return super().tensors()

    def _join(self, count: int, mean: Tensor, places: Tensor | None) -> None:
        """Adds count and mean of a sample whose rows were added already, and a row for the distance of the means.

        `places` are the mixtures of these rows that its centred vectors are.
        """
        total = self.count + count
        delta = mean - self.mean
        step = (self.count * count / total) ** 0.5
        joined: Tensor | None = places
        if self.count:
            torch.mul(delta, step, out=self._extend(1)[0])
            if self._places is None or places is None:
                joined = None
            else:
                known = self._places.shape[1]
                joined = torch.zeros(total, len(self.rows), dtype=torch.float64)
                joined[: self.count, :known] = self._places
                joined[self.count :, known:-1] = places
                joined[: self.count, -1] = -count / total / step
                joined[self.count :, -1] = self.count / total / step
        self._places = joined
        self.mean = self.mean + delta * (count / total)
        self.count = total
        if len(self.rows) > self.room:
            self.truncate(self.room // 2)

    def _extend(self, added: int) -> Tensor:
        """Appends `added` uninitialised rows and returns them for the caller to fill."""
        count, dim = len(self.rows) + added, self.rows.shape[1]
        if self.rows.untyped_storage().nbytes() < 4 * count * dim or self.rows.storage_offset():
            self._reserve(max(count, self.room + self.room // 4 + 1))
        self.rows = self.rows.as_strided((count, dim), (dim, 1))
        return self.rows[count - added :]

    def _reserve(self, count: int) -> None:
        """Moves the rows into new memory with space for `count`; unused space takes none."""
        rows = uninitialised(count, self.rows.shape[1])[: len(self.rows)]
        rows.copy_(self.rows)
        self.rows = rows

    def _cut(self, rank: int, room: int) -> Subspace:
        """Returns a subspace with at most `rank` rows and this room; this one is not changed."""
        cut = Subspace(self.count, self.mean, self.rows, self.lost, room, self.gram)
        cut._places = self._places
        if len(self.rows) > rank:
            cut.truncate(rank)
        return cut

    def truncate(self, rank: int, variance: float = 1.0) -> None:
        """Replaces the rows by the leading singular directions times their singular values, in new memory.

        They are at most `rank`, and no more than keep the share `variance` of the variance.
        """
        values, directions = self._spectrum()
        rank = min(rank, self._rank(values, variance))
        mixing = directions[:, :rank].T.float()
        rows = uninitialised(rank, len(self.mean))
        for part, whole in zip(torch.split(rows, PART, dim=1), torch.split(self.rows, PART, dim=1), strict=True):
            torch.mm(mixing, whole, out=part)
        self.rows, self._places = rows, None
        self.lost += float(values[rank:].sum())
        self.gram = torch.diag(values[:rank])

    def finish(self, variance: float) -> Principal:
        """Returns the fewest leading directions that keep the share `variance` of the variance, in [0, 1].

        The energy lost by truncation counts as outside; if it alone exceeds what may be left out, all directions are
        taken.
        """
        values, directions = self._spectrum()
        rank = self._rank(values, variance)
        energy = float(values.sum()) + self.lost
        mixing = (directions[:, :rank] / values[:rank].sqrt()).T
        kept = float(values[:rank].sum()) / energy if energy else 1.0
        return Principal(self.mean, self.rows, mixing, kept, energy)

    def _rank(self, values: Tensor, variance: float) -> int:
        total = float(values.sum()) + self.lost
        if total == 0:
            return 0
        shares = torch.cumsum(values, 0) / total
        return min(int((shares < variance).sum()) + 1, len(values))

    def _spectrum(self) -> tuple[Tensor, Tensor]:
        """Returns eigenvalues (m,) of the rows' Gram matrix above rounding, largest first, and eigenvectors (k, m)."""
        gram = self.products()
        values = gram.diagonal()
        directions = torch.eye(len(gram), dtype=torch.float64)
        if not torch.equal(gram, torch.diag(values)) or bool((values.diff() > 0).any()):
            with one_thread():
                values, directions = (found.double() for found in torch.linalg.eigh(gram.to(self.precision)))
            values, directions = values.flip(0), directions.flip(1)
        above = values > 16 * torch.finfo(torch.float32).eps * values[:1].clamp_min(0)
        return values[above], directions[:, above]

    def _know(self, last: Tensor) -> None:
        """Takes over the products of the last rows with one another; only those with the first rows are computed."""
        first, count = len(self.gram), len(self.rows)
        if first + len(last) != count:
            return  # not all are known
        gram = torch.zeros(count, count, dtype=torch.float64)
        gram[:first, :first], gram[first:, first:] = self.gram, last
        for part in torch.split(self.rows, 2 * PART, dim=1):
            gram[first:, :first] += part[first:] @ part[:first].T
        gram[:first, first:] = gram[first:, :first].T
        self.gram = gram

    def products(self) -> Tensor:
        """Returns the rows' Gram matrix; each product of two rows is computed once, since only `truncate` changes rows.

        Parts of a product are in float32, their sum in float64.
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


@dataclass
class _Rest(Subspace):
    """What `leave_out` leaves: vectors that are `mixtures` (n, k) of the rows, and their own Gram matrix (n, n)."""

    precision: ClassVar[torch.dtype] = torch.float32  # twice as quick; residuals differ by less than one in 10,000

    mixtures: Tensor = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.float64), repr=False)

    def products(self) -> Tensor:
        return self.gram

    def finish(self, variance: float) -> Principal:
        principal = super().finish(variance)
        return replace(principal, mixing=(principal.mixing.float() @ self.mixtures.float()).double())
