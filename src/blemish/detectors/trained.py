"""The mixin of detectors that are trained by gradient descent after their one pass over the images."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor, nn

from blemish.detectors.detector import Detector, Features, Grid
from blemish.errors import SettingError
from blemish.expected import Kind
from blemish.storage.tensors import below, under
from blemish.training import Schedule
from blemish.training.schedule import ALLOWED

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(kw_only=True)
class Trained(Detector):
    """A detector with networks: their schedule, their loss, and how they are judged and saved.

    A class that also extends another detector names that one first, as in `class FREAE(FRE, Trained)`, so that its
    defaults are kept.

    Attributes:
        epochs, batch, drawn, learning_rate, minutes, precision, patience, seed: how it is trained; see
            `training.Schedule`.
    """

    fewest: ClassVar[int] = 3

    holds_back: ClassVar[bool] = True
    """Whether some training images are held back, to judge the training by."""

    allowed: ClassVar[Mapping[str, Kind]] = ALLOWED

    epochs: int = 1
    batch: int = 16
    drawn: int | None = None
    learning_rate: float = 1e-3
    minutes: float | None = None
    precision: str = "32-true"
    patience: int | None = 8
    seed: int = 0

    def schedule(self) -> Schedule:
        """Returns how long and how fast it is trained."""
        return Schedule(**{field.name: getattr(self, field.name) for field in fields(Schedule)})

    @property
    def sees_margins(self) -> bool:
        """Whether its objective takes training images as they are before the crop."""
        return False

    @abstractmethod
    def networks(self) -> dict[str, nn.Module]:
        """Returns what is trained, by name. Raises `SettingError` before the first features."""

    @abstractmethod
    def objective(self) -> nn.Module:
        """Returns the module to train; it takes a batch and returns the terms of its loss; `loss` is minimised."""

    def enough(self) -> float | None:
        """Returns how good it must be for training to end early; `None` if training ends by its schedule alone."""
        return None

    def judged_map(self, features: Features) -> Tensor:
        """Returns the map (B, h, w) of a batch at this stage of training, to judge the training by."""
        coarse: Tensor = self.head()(tuple(features))
        return coarse

    def settle(self, batches: Iterable[Features]) -> None:  # most have nothing more to learn
        """Learns how its own maps look on good images; called after training, with batches of them."""

    def merge(self, other: Self) -> Self:
        """Raises `SettingError`: networks that were trained apart cannot be joined."""
        raise SettingError(f"{self.name} is trained, so it cannot be merged with another; fit on all images together")

    def tensors(self) -> dict[str, Tensor]:
        found = super().tensors()
        for name, network in self.networks().items():
            found |= under(name, network.state_dict())
        return found

    def restore(self, grids: list[Grid], tensors: Mapping[str, Tensor]) -> Self:
        super().restore(grids, tensors)
        for name, network in self.networks().items():
            network.load_state_dict(below(tensors, name))
            network.eval()
        return self
