"""The interface of everything that is learned in one pass: start empty, take in batches, merge, finish."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from torch import Tensor

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclasses.dataclass
class Statistic(ABC):
    """A summary of a sample; a dataclass of numbers and tensors. Its memory is bounded, unless it says otherwise.

    Statistics are a commutative monoid up to rounding: any split of a sample into batches and parts, in any order,
    gives the same answer. Where the mathematics allows it, a statistic is also `Divisible`.

    Attributes:
        count: size of the sample.
    """

    count: int

    @abstractmethod
    def update(self, batch: Tensor) -> Self:
        """Takes in a batch (n, ...), in place, and returns itself.

        Raises:
            ShapeError: the batch has another shape than the statistic.
        """

    @abstractmethod
    def merge(self, other: Self) -> Self:
        """Returns the statistic of both samples together; neither of the two is changed.

        Raises:
            ShapeError: the two have different shapes.
        """

    @abstractmethod
    def finish(self, *options: Any) -> Any:
        """Returns the result: a mean, a covariance, a subspace."""

    def tensors(self) -> dict[str, Tensor]:
        """Returns the fields by name, numbers as tensors of no dimensions."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {
            name: value.contiguous() if isinstance(value, Tensor) else torch.tensor(value, dtype=_KINDS[type(value)])
            for name, value in values.items()
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        """Returns the statistic that gave these `tensors`.

        Raises:
            KeyError: a field is missing.
        """
        found = {field.name: tensors[field.name] for field in dataclasses.fields(cls)}
        values: dict[str, Any] = {name: value if value.ndim else value.item() for name, value in found.items()}
        return cls(**values)


@runtime_checkable
class Divisible(Protocol):
    """A statistic from which a part of its sample can be taken out, without reading the rest again."""

    def leave_out(self, members: Tensor, batch: Tensor) -> Statistic:
        """Returns the statistic of the rest of the sample; this one is not changed.

        It equals, up to rounding, one that never took in the part.

        Args:
            members: numbers of the part's rows (n,), in the order in which the rows were taken in.
            batch: these rows (n, ...).
        """


@runtime_checkable
class Reversible(Divisible, Protocol):
    """A divisible statistic whose rest can learn more, and which knows its error of rounding."""

    def rounding(self) -> float:
        """Returns about how large the error of rounding may be in what `finish` returns; 0 if nothing was taken out.

        It grows with the share of the sample that was taken out, since differences of large numbers keep their error.
        """


ROUNDING = 64 * torch.finfo(torch.float64).eps
"""The error of a sum in float64, as a share of it: the sum of 4,096 batches has about 64 times the error of one."""

_KINDS = {int: torch.int64, float: torch.float64}
