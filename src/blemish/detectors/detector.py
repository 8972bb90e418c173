"""The base of all detectors: settings, named statistics, and what follows from these: update, merge, save, restore."""

from __future__ import annotations

import copy
import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
from torch import Tensor

from blemish.detectors.head import Head
from blemish.errors import SettingError, ShapeError
from blemish.expected import Choice, Kind, Number, read_all
from blemish.statistics import Divisible, Reversible, Statistic
from blemish.storage.tensors import below, under

if TYPE_CHECKING:
    from typing_extensions import Self

Features = Sequence[Tensor]
"""One tensor (B, C_l, H_l, W_l) for each layer."""

DOUBLE = 2
"""A product in float64 takes this many times as long as in float32."""

EIGEN = 6
"""An eigen-decomposition of an n x n matrix in float32 takes about as long as this many times n³ operations."""

MANY = 1 << 40
"""Stands for any number of images."""

Grid = tuple[int, int, int]
"""Channels, height and width of one layer's feature map."""


@dataclasses.dataclass(kw_only=True)
class Detector(ABC):
    """Settings that every detector has, and the statistics that it learns.

    A subclass names its statistics in `empty`; its `batches` yields what each of them takes in from a batch.

    Attributes:
        smoothing: standard deviation of the Gaussian filter over the map, in pixels at an input of 224; it grows in
            proportion to the root of the input's pixels. 0 means no filter.
        interpolation: `nearest`, `bilinear` or `bicubic`, from the coarse map to the input.
    """

    name: ClassVar[str]
    strides: ClassVar[tuple[int, ...]]
    """Strides of the layers that are used by default."""
    sees_pixels: ClassVar[bool] = False
    """Whether it takes the images themselves instead of a backbone's features."""

    gains_by_copies: ClassVar[bool] = False
    """Whether shifted copies of few images make it better, so that some are made by default."""

    allowed: ClassVar[Mapping[str, Kind]] = {
        "smoothing": Number(0, 100),
        "interpolation": Choice("nearest", "bilinear", "bicubic"),
    }
    """Type and range of each setting that the class adds to those of its base classes."""

    fewest: ClassVar[int] = 2
    """Different images that a fit needs: those to learn from, and at least one to calibrate on."""

    smoothing: float = 0.0
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        self.grids_: list[Grid] = []
        self.count_ = 0
        self.statistics_: dict[str, Statistic] = {}
        given = {name: getattr(self, name) for name in self.setting_names()}
        for name, value in read_all(self.name, given, self.kinds()).items():
            setattr(self, name, value)

    @abstractmethod
    def empty(self, grids: list[Grid]) -> dict[str, Statistic]:
        """Returns empty statistics for layers of these shapes, by name; also makes all else that depends on the shapes.

        Raises:
            SettingError: the settings do not fit such layers.
        """

    @abstractmethod
    def batches(self, features: Features) -> Iterator[tuple[str, Tensor]]:
        """Yields pairs of a statistic's name and what it takes in from one batch; a name may come several times."""

    @abstractmethod
    def head(self) -> Head:
        """Returns the scoring module.

        Raises:
            SettingError: too few images were taken in, or they never vary.
        """

    @abstractmethod
    def memory(self, grids: list[Grid], images: int, batch: int) -> int:
        """Returns about how many bytes a fit on this many images holds at its peak, its head included."""

    def operations(self, grids: list[Grid], rows: int, scored: int, models: int) -> float:
        """Returns about how many multiplications and additions learning and calibrating take.

        Operations that are slower than those of a matrix product in float32 count several times. It is 0 for a detector
        that is trained.

        Args:
            grids: of the layers.
            rows: how many rows it learns from, shifted copies included.
            scored: how many of them are scored, to calibrate.
            models: how many scoring modules are made.
        """
        return 0.0

    def size(self, grids: list[Grid], rows: int) -> int:
        """Returns about how many bytes a saved model takes that learned from `rows` rows, without the backbone."""
        return 0

    @property
    def count(self) -> int:
        """How many images were taken in."""
        return self.count_

    @property
    def needs_gradients(self) -> bool:
        """Whether its scoring takes gradients, which only torch can do."""
        return False

    @classmethod
    def setting_names(cls) -> list[str]:
        return [field.name for field in dataclasses.fields(cls)]

    @classmethod
    def kinds(cls) -> dict[str, Kind]:
        """Returns type and range of each setting by its name, as `allowed` has them."""
        found: dict[str, Kind] = {}
        for base in reversed(cls.__mro__):
            found |= vars(base).get("allowed", {})
        return found

    def settings(self) -> dict[str, Any]:
        """Returns the settings as JSON can hold them."""
        return dataclasses.asdict(self)

    def update(self, features: Features) -> Self:
        """Takes in the features of one batch of good images, in place, and returns the detector.

        Raises:
            ShapeError: other layers than those of earlier batches.
            SettingError: the settings do not fit such layers, or `batches` names a statistic that is not there.
        """
        grids = [(f.shape[1], f.shape[2], f.shape[3]) for f in features]
        if not self.grids_:
            self.start(grids)
        if grids != self.grids_:
            raise ShapeError(f"features of shapes {grids} do not fit a detector fitted on {self.grids_}")
        for name, batch in self.batches(features):
            if name not in self.statistics_:
                known = ", ".join(self.statistics_) or "none"
                raise SettingError(
                    f"{self.name}: batches gives {name!r}, and empty makes no such statistic, but {known}"
                )
            self.statistics_[name].update(batch)
        self.count_ += len(features[0])
        return self

    def start(self, grids: list[Grid]) -> None:
        """Empties the detector, for layers of these shapes. Raises `SettingError` if its settings do not fit."""
        self.statistics_ = self.empty(grids)
        self.grids_, self.count_ = grids, 0

    def emptied(self) -> Self:
        """Returns a detector with the same settings for the same layers that has learned nothing yet."""
        empty = copy.copy(self)
        empty.start(self.grids_)
        return empty

    def merge(self, other: Self) -> Self:
        """Returns a detector that has learned from both samples; neither of the two is changed.

        It equals one that took in both samples, up to rounding. The exception is a statistic that loses something: a
        `Subspace` that has more images than room, or that was cut down by `compact`, is merged approximately.

        Raises:
            SettingError: the two have different settings.
            ShapeError: they were fitted on different layers.
        """
        if type(other) is not type(self) or other.settings() != self.settings():
            raise SettingError(f"detectors with different settings cannot be merged: {self} and {other}")
        if not self.grids_ or not other.grids_:
            return copy.deepcopy(self if self.grids_ else other)
        if other.grids_ != self.grids_:
            raise ShapeError(f"a detector fitted on {other.grids_} cannot be merged with one fitted on {self.grids_}")
        merged = copy.copy(self)
        merged.count_ = self.count_ + other.count_
        merged.statistics_ = {name: own.merge(other.statistics_[name]) for name, own in self.statistics_.items()}
        return merged

    def expect(self, copies: int, free: int | None = None) -> None:  # noqa: B027  # most have nothing to settle
        """Sets, before a fit, what depends on the number of shifted copies of each image, and on memory.

        Args:
            copies: how many shifted copies of each image there will be.
            free: bytes of memory that are free; `None` if that is not known.
        """

    def leaves_out(self, grids: list[Grid]) -> int:
        """Returns the largest number of learned images from which it can leave some out; 0 if it can leave out none."""
        return MANY if all(isinstance(own, Divisible) for own in self.empty(grids).values()) else 0

    def without(self, members: Tensor, features: Features) -> Self:
        """Returns the detector as if it had not learned from some of the images; this one is not changed.

        It scores like one that was fitted on the other images, up to rounding. If it `forgets`, it can learn more.

        Args:
            members: numbers of these images (n,), in the order in which they were taken in.
            features: theirs, (n, C_l, H_l, W_l) for each layer.
        """
        rest = copy.copy(self)
        rest.count_ = self.count_ - len(members)
        rest.statistics_ = dict(self.statistics_)
        for name, batch in self.batches(features):
            rest.statistics_[name] = cast(Divisible, rest.statistics_[name]).leave_out(members, batch)
        return rest

    @property
    def forgets(self) -> bool:
        """Whether the detector that `without` returns can learn more; false before it has taken in images."""
        return bool(self.statistics_) and all(isinstance(own, Reversible) for own in self.statistics_.values())

    def rounding(self) -> float:
        """Returns about how far rounding may have moved scores, as a share of them, after images were taken out."""
        return 0.0

    def each_left_out(self) -> Self | None:
        """Returns a detector that scores each image it learned from as if it had learned from the other images only.

        It is `None` if the mathematics gives no such detector; use `without` for each part then.
        """
        return None

    def tensors(self) -> dict[str, Tensor]:
        """Returns what was learned, by name."""
        found = {"count": torch.tensor(self.count_)}
        for name, statistic in self.statistics_.items():
            found |= under(name, statistic.tensors())
        return found

    def restore(self, grids: list[Grid], tensors: Mapping[str, Tensor]) -> Self:
        """Sets what was learned to these `tensors`, for layers of these shapes, and returns the detector.

        Raises:
            KeyError: a tensor is missing.
        """
        self.start(grids)
        self.count_ = int(tensors["count"])
        self.statistics_ = {
            name: type(empty).from_tensors(below(tensors, name)) for name, empty in self.statistics_.items()
        }
        return self

    def compact(self) -> None:  # noqa: B027  # most have nothing to drop
        """Drops what scoring does not need; later updates and merges are then no longer exact."""

    def summary(self) -> dict[str, Any]:
        """Returns what a reader may want to know about what was learned, as JSON can hold it."""
        return {}
