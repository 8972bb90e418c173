"""Mean and covariance of vectors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from blemish.errors import ShapeError
from blemish.statistics.statistic import ROUNDING, Statistic


@dataclass
class Moments(Statistic):
    """Count, mean (d,) and centred scatter (d, d) of vectors, all in float64; never raw sums of squares."""

    mean: Tensor
    scatter: Tensor
    peak: float = 0.0
    """The largest variance times count that a dimension had before something was taken out; 0 if nothing was."""

    @classmethod
    def empty(cls, dim: int) -> Moments:
        """Returns the identity of `merge`."""
        return cls(0, torch.zeros(dim, dtype=torch.float64), torch.zeros(dim, dim, dtype=torch.float64))

    def update(self, vectors: Tensor) -> Moments:
        """Takes in vectors (n, d), in place.

        Raises:
            ShapeError: the vectors have another dimension than the statistic.
        """
        if vectors.ndim != 2 or vectors.shape[1] != len(self.mean):
            raise ShapeError(f"expected vectors of shape (n, {len(self.mean)}), got {tuple(vectors.shape)}")
        if len(vectors) == 0:
            return self
        rows = vectors.to("cpu", torch.float64)
        mean = rows.mean(0)
        centred = rows - mean
        both = self.merge(Moments(len(rows), mean, centred.T @ centred))
        self.count, self.mean, self.scatter = both.count, both.mean, both.scatter
        return self

    def merge(self, other: Moments) -> Moments:
        """Returns the statistic of both samples together (Chan, Golub & LeVeque 1983, eq. 2.1).

        Raises:
            ShapeError: the two have different dimensions.
        """
        if self.mean.shape != other.mean.shape:
            raise ShapeError(f"cannot merge moments of {len(self.mean)} and of {len(other.mean)} dimensions")
        count = self.count + other.count
        delta = other.mean - self.mean  # (d,)
        share = other.count / max(count, 1)
        return Moments(
            count=count,
            mean=self.mean + delta * share,
            scatter=self.scatter + other.scatter + self.count * share * torch.outer(delta, delta),
            peak=max(self.peak, other.peak),
        )

    def leave_out(self, members: Tensor, batch: Tensor) -> Moments:
        """Returns the statistic of the rest: the equation of `merge`, solved for one of the two samples."""
        part = Moments.empty(len(self.mean)).update(batch)
        count = self.count - part.count
        delta = part.mean - self.mean  # the rest's mean lies on the other side of the whole's
        share = part.count / max(count, 1)
        return Moments(
            count=count,
            mean=self.mean - delta * share,
            scatter=self.scatter - part.scatter - self.count * share * torch.outer(delta, delta),
            peak=max(self.peak, float(self.scatter.diagonal().max())),
        )

    def rounding(self) -> float:
        return ROUNDING * self.peak / max(self.count - 1, 1)

    def finish(self) -> tuple[Tensor, Tensor]:
        """Returns mean (d,) and unbiased covariance (d, d); the covariance of fewer than two vectors is zero."""
        return self.mean, self.scatter / max(self.count - 1, 1)
