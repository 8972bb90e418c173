"""How long and how fast to train, and in which order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from blemish.errors import SettingError

if TYPE_CHECKING:
    pass


LENGTHS = ("epochs", "minutes", "patience")
"""Of a schedule, what may differ where it is resumed: one may go on for longer."""


KINDS: dict[str, Any] = {
    "epochs": int,
    "batch": int,
    "drawn": int,
    "learning_rate": (int, float),
    "minutes": (int, float),
    "patience": int,
    "seed": int,
}
"""Of a schedule, what is a number, and of which kind."""


OPTIONAL = ("drawn", "minutes", "patience")
"""Of these, what may be `None`."""


SEEDS = 1 << 32
"""How many there are; with a step's number they still make a seed of torch's."""


FASTEST = 1e30
"""The largest learning rate; single precision ends soon after."""


PRECISIONS = ("32-true", "bf16-mixed")
"""Of the arithmetic, by Fabric's names."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how fast to train.

    Attributes:
        epochs: passes over the images, or over as many as are drawn.
        batch: images to a step.
        drawn: images an epoch, drawn anew for each, and again where there are fewer; all of them once by default.
        learning_rate: of Adam.
        minutes: stop after so many, wherever in the schedule; the result then depends on the machine.
        precision: `32-true`, or `bf16-mixed` where the processor has it: quicker, and to three digits.
        patience: where training is judged, every `JUDGED` steps, end it after so many that found it no better than
            before, and keep the best weights; `None` keeps the last.
        seed: of order, draws and noise.
    """

    epochs: int = 1
    batch: int = 16
    drawn: int | None = None
    learning_rate: float = 1e-4
    minutes: float | None = None
    precision: str = "32-true"
    patience: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise SettingError(f"precision {self.precision!r} is not known; give one of {', '.join(PRECISIONS)}")
        for name, kind in KINDS.items():
            value = getattr(self, name)
            if value is None and name in OPTIONAL:
                continue
            if isinstance(value, bool) or not isinstance(value, kind):
                whole = "whole " if kind is int else ""
                raise SettingError(f"{name} {value!r} is not a {whole}number; give one")
            if not value > 0 and name != "seed":
                raise SettingError(f"{name} {value} is out of range; give a number above 0")
        if self.learning_rate > FASTEST:
            raise SettingError(f"learning_rate {self.learning_rate} is out of range; give a number up to {FASTEST:g}")
        if not 0 <= self.seed < SEEDS:
            raise SettingError(f"seed {self.seed} is out of range; give 0 to {SEEDS - 1}")

    def steps(self, count: int) -> int:
        """How many batches an epoch over `count` images has; one image that is left over goes to the last of them."""
        drawn = self.drawn or count
        batches = -(-drawn // self.batch)
        left_over = batches > 1 and drawn - (batches - 1) * self.batch == 1
        return batches - 1 if left_over else batches  # a batch of one has no spread to normalise by

    def order(self, epoch: int, count: int) -> Iterator[list[int]]:
        """The batches of an epoch over `count` images, one after the other; never all of them are held."""
        numbers = self._numbers(epoch, count)
        steps = self.steps(count)
        yield from (list(islice(numbers, self.batch)) for _ in range(steps - 1))
        yield list(numbers)

    def order_from(self, step: int, count: int) -> Iterator[list[int]]:
        """The batches of all epochs from a step on; what the epochs before it would have been is not asked."""
        first, within = divmod(step, self.steps(count))
        for epoch in range(first, self.epochs):
            yield from islice(self.order(epoch, count), within if epoch == first else 0, None)

    def _numbers(self, epoch: int, count: int) -> Iterator[int]:
        """The images of an epoch, all of them in a new order as often as it takes."""
        rng = np.random.default_rng([self.seed, epoch])
        drawn = self.drawn or count
        for start in range(0, drawn, count):
            yield from rng.permutation(count)[: drawn - start].tolist()
