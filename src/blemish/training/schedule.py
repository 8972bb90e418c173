"""How long and how fast to train, and in which order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

from blemish.expected import Choice, Kind, Maybe, Number, Whole, read_all

LENGTHS = ("epochs", "minutes", "patience")
"""Settings of a schedule that may change when a training is resumed, so that it can run longer."""


SEEDS = 1 << 32
"""Seeds are below this, so that together with a step's number they still give a seed for torch."""


FASTEST = 1e30
"""The largest learning rate; single precision cannot hold much larger numbers."""


PRECISIONS = ("32-true", "bf16-mixed")
"""Precisions of the arithmetic, by Fabric's names."""


ALLOWED: dict[str, Kind] = {
    "epochs": Whole(1, 1_000_000),
    "batch": Whole(1, 65_536),
    "drawn": Maybe(Whole(1, 1_000_000_000)),
    "learning_rate": Number(0, FASTEST, above=True),
    "minutes": Maybe(Number(0, 1_000_000, above=True)),
    "precision": Choice(*PRECISIONS),
    "patience": Maybe(Whole(1, 1_000_000)),
    "seed": Whole(0, SEEDS - 1),
}
"""Types and ranges of a schedule's settings."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how fast to train.

    Attributes:
        epochs: passes over the images, or over as many as are drawn.
        batch: images in a step.
        drawn: images in an epoch, drawn at random for each epoch, repeatedly if there are fewer; by default all once.
        learning_rate: of Adam, or of the optimisers that the trained module brings (HFR: SGD).
        minutes: stop after this many minutes, anywhere in the schedule; the result then depends on the machine.
        precision: `32-true`, or `bf16-mixed` where the processor supports it: quicker, precise to three digits.
        patience: stop after this many judgements without a better one, and keep the best weights; there is a judgement
            every `loop.JUDGED` steps. `None` never stops early and keeps the last weights.
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
        for name, value in read_all("schedule", vars(self), ALLOWED).items():
            object.__setattr__(self, name, value)

    def steps(self, count: int) -> int:
        """Returns how many batches an epoch over `count` images has; a single image left over joins the last batch."""
        drawn = self.drawn or count
        batches = -(-drawn // self.batch)
        left_over = batches > 1 and drawn - (batches - 1) * self.batch == 1
        return batches - 1 if left_over else batches  # a batch of one has no spread to normalise by

    def order(self, epoch: int, count: int) -> Iterator[list[int]]:
        """Yields the batches of an epoch over `count` images; they are not held all at once."""
        numbers = self._numbers(epoch, count)
        steps = self.steps(count)
        yield from (list(islice(numbers, self.batch)) for _ in range(steps - 1))
        yield list(numbers)

    def order_from(self, step: int, count: int) -> Iterator[list[int]]:
        """Yields the batches of all epochs from a step on; earlier epochs are not drawn."""
        first, within = divmod(step, self.steps(count))
        for epoch in range(first, self.epochs):
            yield from islice(self.order(epoch, count), within if epoch == first else 0, None)

    def _numbers(self, epoch: int, count: int) -> Iterator[int]:
        """Yields the images of an epoch: all in a new order, repeatedly if more are drawn than there are."""
        rng = np.random.default_rng([self.seed, epoch])
        drawn = self.drawn or count
        for start in range(0, drawn, count):
            yield from rng.permutation(count)[: drawn - start].tolist()
