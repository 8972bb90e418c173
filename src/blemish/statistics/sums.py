"""The sum of vectors, where only a mean is needed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from blemish.errors import ShapeError
from blemish.statistics.statistic import Statistic


@dataclass
class Sums(Statistic):
    """Count and sum (d,) of vectors, in float64."""

    total: Tensor

    @classmethod
    def empty(cls, dim: int) -> Sums:
        """Returns the identity of `merge`."""
        return cls(0, torch.zeros(dim, dtype=torch.float64))

    def update(self, batch: Tensor) -> Sums:
        """Takes in vectors (n, d), in place.

        Raises:
            ShapeError: the vectors have another dimension than the statistic.
        """
        if batch.ndim != 2 or batch.shape[1] != len(self.total):
            raise ShapeError(f"expected vectors of shape (n, {len(self.total)}), got {tuple(batch.shape)}")
        self.total += batch.to("cpu", torch.float64).sum(0)
        self.count += len(batch)
        return self

    def merge(self, other: Sums) -> Sums:
        """Returns the sum of both samples together.

        Raises:
            ShapeError: the two have different dimensions.
        """
        if self.total.shape != other.total.shape:
            raise ShapeError(f"cannot merge sums of {len(self.total)} and of {len(other.total)} dimensions")
        return Sums(self.count + other.count, self.total + other.total)

    def finish(self) -> Tensor:
        """Returns the mean (d,)."""
        return self.total / max(self.count, 1)
