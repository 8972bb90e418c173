"""Mean and covariance at every position of a grid; the covariance has all its rows, or only the last ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from blemish.errors import ShapeError
from blemish.statistics.memory import zeros
from blemish.statistics.statistic import ROUNDING, Statistic


@dataclass
class GridMoments(Statistic):
    """Count, mean (P, d) and rows of the centred scatter (P, r, d), for P positions, all in float64.

    Only the last r rows are kept, all of them by default.
    """

    mean: Tensor
    scatter: Tensor
    peak: float = 0.0
    """The largest variance times count that a dimension had before something was taken out; 0 if nothing was."""

    @classmethod
    def empty(cls, positions: int, dim: int, rows: int | None = None) -> GridMoments:
        """Returns the identity of `merge`."""
        mean = torch.zeros(positions, dim, dtype=torch.float64)
        return cls(0, mean, zeros(positions, dim if rows is None else rows, dim))

    def update(self, vectors: Tensor) -> GridMoments:
        """Takes in vectors (n, P, d), in place.

        Raises:
            ShapeError: the vectors have another grid or dimension than the statistic.
        """
        if vectors.ndim != 3 or vectors.shape[1:] != self.mean.shape:
            raise ShapeError(f"expected vectors of shape (n, {_sides(self)}), got {tuple(vectors.shape)}")
        added = len(vectors)
        if added == 0:
            return self
        rows = vectors.transpose(0, 1)  # (P, n, d)
        # The last row will stand for the distance between the two means, so that one product gives the whole update.
        centred = torch.empty(len(rows), added + 1, rows.shape[2], dtype=torch.float64)
        centred[:, :-1] = rows
        mean = centred[:, :-1].mean(1)
        centred[:, :-1] -= mean[:, None]
        delta = mean - self.mean
        count = self.count + added
        centred[:, -1] = delta * (self.count * added / count) ** 0.5
        self.scatter.baddbmm_(self._last(centred).transpose(1, 2), centred)
        self.mean += delta * (added / count)
        self.count = count
        return self

    def merge(self, other: GridMoments) -> GridMoments:
        """Returns the statistic of both samples together (Chan, Golub & LeVeque 1983, eq. 2.1, at each position).

        Raises:
            ShapeError: the two have different grids or dimensions.
        """
        if self.scatter.shape != other.scatter.shape:
            raise ShapeError(f"cannot merge moments of grids ({_sides(self)}) and ({_sides(other)})")
        count = self.count + other.count
        delta = other.mean - self.mean  # (P, d)
        share = other.count / max(count, 1)
        step = (delta * (self.count * share) ** 0.5)[:, None]
        return GridMoments(
            count=count,
            mean=self.mean + delta * share,
            scatter=torch.baddbmm(self.scatter + other.scatter, self._last(step).transpose(1, 2), step),
            peak=max(self.peak, other.peak),
        )

    def leave_out(self, members: Tensor, batch: Tensor) -> GridMoments:
        """Returns the statistic of the rest; `batch` has vectors (n, P, d).

        With d_i the part's distances from the whole's mean, the rest's scatter is the whole's less d_i d_i^T and less
        m m^T, where m is their sum divided by the root of the rest's count.
        """
        part = len(batch)
        count = self.count - part
        centred = torch.empty(len(self.mean), part + 1, self.mean.shape[1], dtype=torch.float64)
        torch.sub(batch.to("cpu").transpose(0, 1), self.mean[:, None], out=centred[:, :-1])
        total = centred[:, :-1].sum(1)
        centred[:, -1] = total / max(count, 1) ** 0.5
        return GridMoments(
            count=count,
            mean=self.mean - total / max(count, 1),
            scatter=torch.baddbmm(self.scatter, self._last(centred).transpose(1, 2), centred, alpha=-1),
            peak=max(self.peak, float(self._variances().max())),
        )

    def rounding(self) -> float:
        return ROUNDING * self.peak / max(self.count - 1, 1)

    def finish(self) -> tuple[Tensor, Tensor]:
        """Returns mean (P, d) in float64 and unbiased covariance (P, r, d); that of fewer than two vectors is zero."""
        return self.mean, self.scatter / max(self.count - 1, 1)

    def _variances(self) -> Tensor:
        """Returns the diagonal of the scatter (P, r)."""
        return self._last(self.scatter).diagonal(dim1=1, dim2=2)

    def _last(self, vectors: Tensor) -> Tensor:
        """Returns the dimensions of vectors (P, n, d) whose rows are kept, (P, n, r)."""
        return vectors[:, :, vectors.shape[2] - self.scatter.shape[1] :]


def _sides(moments: GridMoments) -> str:
    return ", ".join(map(str, moments.mean.shape))
