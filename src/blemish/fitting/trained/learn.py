"""A detector trained, judged while it is, and shown normal images once more when it has been."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import nn

from blemish.detectors import Detector
from blemish.engines import BATCH
from blemish.training import Schedule, Step, train
from blemish.training.loop import check_folder
from blemish.training.schedule import LENGTHS

SETTLING = 512
"""Images at most from which a trained detector learns what its maps of normal images are like."""


class Source(Protocol):
    """What there is to train on, by number."""

    @property
    def identity(self) -> Any:
        """All that decides what it holds, as JSON can hold it."""

    def __len__(self) -> int: ...

    def batches(self, orders: Iterable[list[int]]) -> Iterator[Any]:
        """For each list of numbers what the detector's objective takes."""

    def judge(self, detector: Detector, module: nn.Module, seed: int) -> Callable[[], float]:
        """How good the detector is as it stands, higher where better."""


def check_training(detector: Detector, folder: Path | None, resume: bool) -> Schedule:
    """How long and how fast the detector is trained; asked before the work that comes before.

    Raises:
        SettingError: one of its settings makes no schedule, or the folder holds what would be overwritten.
    """
    settings = detector.settings()
    schedule = Schedule(**{field.name: settings[field.name] for field in fields(Schedule)})
    if folder is not None:
        check_folder(folder, resume)
    return schedule


def train_detector(
    detector: Detector,
    source: Source,
    folder: Path | None,
    resume: bool,
    progress: Callable[[str, int, int], None] | None,
) -> None:
    """Its steps along the gradient, in a new order every epoch; then what its maps are like.

    Args:
        detector: that has seen the features once.
        source: what it is trained on.
        folder: for the checkpoint and the log; nothing is kept without one.
        resume: go on from the checkpoint there, if there is one.
        progress: told the stage, and how many of how many steps or images are done.

    Raises:
        TrainingError: it diverged.
        ModelError: the checkpoint is of another training, or cannot be read or written.
        SettingError: as `check_training` does.
        ImageError: an image can be read no longer.
    """

    def watch(step: Step, steps: int) -> None:
        if progress:
            progress("train", step.step + 1, steps)

    schedule = check_training(detector, folder, resume)
    kept = {name: value for name, value in detector.settings().items() if name not in LENGTHS}
    identity = {"detector": detector.name, **kept, "source": source.identity}
    module = detector.objective()
    judge = None if schedule.patience is None else source.judge(detector, module, schedule.seed)
    steps = train(
        module,
        source.batches,
        len(source),
        schedule,
        identity=identity,
        folder=folder,
        resume=resume,
        judge=judge,
        watch=watch,
    )
    if progress and steps:
        progress("train", steps[-1].step + 1, steps[-1].step + 1)  # which may be fewer than there might have been
    module.cpu().eval()
    if not detector.settles:
        return
    drawn = np.random.default_rng([schedule.seed, SETTLING]).permutation(len(source))[:SETTLING].tolist()
    orders = [drawn[start : start + BATCH] for start in range(0, len(drawn), BATCH)]
    done = 0
    for order, found in zip(orders, source.batches(orders), strict=True):
        detector.settle(found if isinstance(found, list) else [found])
        done += len(order)
        if progress:
            progress("settle", done, len(drawn))
