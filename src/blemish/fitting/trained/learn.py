"""Trains a detector and judges it meanwhile; then it learns how its own maps look on normal images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import Tensor, nn

from blemish.detectors import Detector, Trained
from blemish.engines import BATCH
from blemish.engines.stream import Chunk
from blemish.fitting.cache import FeatureCache
from blemish.fitting.split import Division
from blemish.fitting.trained.image_files import ImageFiles
from blemish.fitting.trained.kept_features import KeptFeatures
from blemish.model import Recipe
from blemish.progress import Progress
from blemish.training import Step, train
from blemish.training.loop import check_folder
from blemish.training.schedule import LENGTHS

SETTLING = 512
"""How many images a trained detector learns from how its own maps look, at most."""


class TrainingData(Protocol):
    """What there is to train on, by number."""

    @property
    def identity(self) -> Any:
        """All that decides the data, as JSON can hold it."""

    def __len__(self) -> int: ...

    def keep(self, chunk: Chunk) -> None:
        """Takes in the features of a batch during the pass over the images."""

    def batches(self, orders: Iterable[list[int]]) -> Iterator[Any]:
        """Yields for each list of numbers what the detector's objective takes."""

    def judge(self, detector: Trained, module: nn.Module, seed: int) -> Callable[[], float]:
        """Returns a function that gives how good the detector is at that time, higher where better."""


class Training:
    """The training of one detector: its data are kept during the pass over the images, and then it is run.

    Args:
        detector: to be trained.
        data: empty.
        folder: for the checkpoint and the log; nothing is kept without one.
        resume: go on from the checkpoint there, if there is one.

    Raises:
        SettingError: the folder holds what would be overwritten.
    """

    def __init__(self, detector: Trained, data: TrainingData, folder: Path | None, resume: bool) -> None:
        self.detector, self.data, self.folder, self.resume = detector, data, folder, resume
        if folder is not None:
            check_folder(folder, resume)

    def keep(self, chunk: Chunk) -> None:
        """Takes in the features of a batch during the pass over the images."""
        self.data.keep(chunk)

    def run(self, progress: Progress | None) -> None:
        """Trains the detector; raises as `train_detector` does."""
        train_detector(self.detector, self.data, self.folder, self.resume, progress)


def make_training(
    detector: Detector,
    recipe: Recipe,
    origin: str,
    images: Division,
    memory: int,
    folder: Path | None,
    resume: bool,
) -> Training | None:
    """Returns the training of a trained detector; `None` for any other.

    Args:
        detector: empty.
        recipe: what is computed.
        origin: of the backbone's weights.
        images: whose part to fit is used.
        memory: bytes of features that may be kept in memory.
        folder: for the checkpoint and the log.
        resume: go on from the checkpoint there.

    Raises:
        SettingError: the folder holds what would be overwritten.
    """
    if not isinstance(detector, Trained):
        return None
    files = ImageFiles([sample.path for sample in images.to_fit], recipe.geometry)
    if detector.sees_pixels:
        return Training(detector, files, folder, resume)
    decisive = [recipe.backbone, list(recipe.layers), origin]
    kept = KeptFeatures(FeatureCache(memory), recipe.seed, detector.patience is not None, decisive, files)
    return Training(detector, kept, folder, resume)


def train_detector(
    detector: Trained, data: TrainingData, folder: Path | None, resume: bool, progress: Progress | None
) -> None:
    """Trains the detector in place, in a new order every epoch; then it learns how its own maps look.

    Args:
        detector: one that has taken in the features once.
        data: what it is trained on.
        folder: for the checkpoint and the log; nothing is kept without one.
        resume: go on from the checkpoint there, if there is one.
        progress: called with the stage, and how many steps or images of how many are done.

    Raises:
        TrainingError: it diverged.
        StorageError: the checkpoint is of another training, or cannot be read or written.
        SettingError: the folder holds what would be overwritten.
        ImageError: an image can no longer be read.
    """

    def watch(step: Step, steps: int) -> None:
        if progress:
            progress("train", step.step + 1, steps)

    schedule = detector.schedule()
    kept = {name: value for name, value in detector.settings().items() if name not in LENGTHS}
    identity = {"detector": detector.name, **kept, "source": data.identity}
    module = detector.objective()
    judge = None if schedule.patience is None else data.judge(detector, module, schedule.seed)
    steps = train(
        module,
        data.batches,
        len(data),
        schedule,
        identity=identity,
        folder=folder,
        resume=resume,
        judge=judge,
        watch=watch,
    )
    if progress and steps:
        progress("train", steps[-1].step + 1, steps[-1].step + 1)  # training may have ended early
    module.cpu().eval()
    detector.settle(_some(data, schedule.seed, progress))


def _some(data: TrainingData, seed: int, progress: Progress | None) -> Iterator[list[Tensor]]:
    """Yields the features of some of the data, drawn by seed, in batches."""
    drawn = np.random.default_rng([seed, SETTLING]).permutation(len(data))[:SETTLING].tolist()
    orders = [drawn[start : start + BATCH] for start in range(0, len(drawn), BATCH)]
    done = 0
    for order, found in zip(orders, data.batches(orders), strict=True):
        yield found if isinstance(found, list) else [found]
        done += len(order)
        if progress:
            progress("settle", done, len(drawn))
