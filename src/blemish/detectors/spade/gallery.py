"""All vectors of a sample, among which nearest neighbours are searched."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from blemish.errors import ShapeError
from blemish.statistics import Statistic
from blemish.statistics.memory import uninitialised


@dataclass
class Gallery(Statistic):
    """Count and the vectors themselves, rows (count, d) in float32.

    Unlike other statistics it grows with the sample, since nearest neighbours cannot be summarised. The rows are in the
    order in which they came, and a merge appends the other sample's rows; neighbours do not depend on the order.
    """

    rows: Tensor

    def __post_init__(self) -> None:
        self._room = self.rows  # the rows, and space for more behind them

    @classmethod
    def empty(cls, dim: int) -> Gallery:
        """Returns the identity of `merge`, for vectors (d,)."""
        return cls(0, torch.zeros(0, dim))

    def update(self, batch: Tensor) -> Gallery:
        """Takes in vectors (n, d), in place.

        Raises:
            ShapeError: the vectors have another dimension than the statistic.
        """
        known, dim = self.rows.shape
        if batch.ndim != 2 or batch.shape[1] != dim:
            raise ShapeError(f"expected vectors of shape (n, {dim}), got {tuple(batch.shape)}")
        self.count = known + len(batch)
        if self.count > len(self._room):
            # Half as much again, so that few rows are ever copied; what is not used yet takes no memory.
            self._room = uninitialised(max(self.count, known + known // 2), dim)
            self._room[:known] = self.rows
        self._room[known : self.count] = batch
        self.rows = self._room[: self.count]
        return self

    def merge(self, other: Gallery) -> Gallery:
        """Returns the vectors of both samples.

        Raises:
            ShapeError: the two have different dimensions.
        """
        if self.rows.shape[1] != other.rows.shape[1]:
            raise ShapeError(
                f"cannot merge galleries of vectors of {self.rows.shape[1]} and of {other.rows.shape[1]} dimensions"
            )
        return Gallery(self.count + other.count, torch.cat([self.rows, other.rows]))

    def leave_out(self, members: Tensor, batch: Tensor) -> Gallery:
        """Returns the other vectors."""
        others = torch.ones(self.count, dtype=torch.bool)
        others[members] = False
        return Gallery(self.count - len(members), self.rows[others])

    def rounding(self) -> float:
        return 0.0

    def finish(self) -> Tensor:
        """Returns the vectors (count, d)."""
        return self.rows
