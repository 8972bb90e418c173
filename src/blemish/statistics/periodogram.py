"""The mean squared amplitude of every frequency: the likelihood of a stationary Gaussian field depends on it alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from blemish.errors import ShapeError
from blemish.statistics.statistic import Statistic


@dataclass
class Periodogram(Statistic):
    """Count of fields and the sum of their squared amplitudes, (H, W // 2 + 1) in float64.

    Frequencies are those of `torch.fft.rfft2` with norm `ortho`, so that white noise of variance 1 has mean 1 at each.
    """

    total: Tensor
    width: int

    @classmethod
    def empty(cls, height: int, width: int) -> Periodogram:
        """Returns the identity of `merge` for fields of this height and width."""
        return cls(0, torch.zeros(height, width // 2 + 1, dtype=torch.float64), width)

    def update(self, fields: Tensor) -> Periodogram:
        """Takes in fields (..., H, W), in place; each counts as one of the sample.

        Raises:
            ShapeError: the fields have another shape than the statistic.
        """
        if fields.shape[-2:] != self.shape:
            raise ShapeError(f"expected fields of shape (..., {_sides(self)}), got {tuple(fields.shape)}")
        for field in fields.reshape(-1, *self.shape).double():
            self.total += torch.fft.rfft2(field, norm="ortho").abs().square()
            self.count += 1
        return self

    def merge(self, other: Periodogram) -> Periodogram:
        """Returns the statistic of both samples together.

        Raises:
            ShapeError: the two have fields of different shapes.
        """
        if self.shape != other.shape:
            raise ShapeError(f"cannot merge periodograms of fields ({_sides(self)}) and ({_sides(other)})")
        return Periodogram(self.count + other.count, self.total + other.total, self.width)

    def finish(self) -> Tensor:
        """Returns the mean at each frequency (H, W // 2 + 1), in float64."""
        return self.total / max(self.count, 1)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of a field."""
        return (len(self.total), self.width)


def _sides(periodogram: Periodogram) -> str:
    return ", ".join(map(str, periodogram.shape))
