"""Trains a detector and judges it meanwhile; then it learns how its own maps look on good images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
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
from blemish.fitting.trained.start import Start
from blemish.model import Recipe
from blemish.progress import Progress
from blemish.training import Step, train
from blemish.training.loop import check_folder
from blemish.training.schedule import LENGTHS

SETTLING = 512
"""The largest number of images from which a trained detector learns how its own maps look."""


class TrainingData(Protocol):
    """What there is to train on, by number."""

    @property
    def identity(self) -> dict[str, Any]:
        """All that decides the data, by name, as JSON can hold it; `files` is what their names decide."""

    def __len__(self) -> int: ...

    def keep(self, chunk: Chunk) -> None:
        """Takes in the features of a batch during the pass over the images."""

    def batches(self, orders: Iterable[list[int]]) -> Iterator[Any]:
        """Yields for each list of numbers what the detector's objective takes."""

    def features(self, orders: Iterable[list[int]]) -> Iterator[Any]:
        """Yields for each list of numbers what the detector's scoring module takes."""

    def judge(self, detector: Trained, module: nn.Module, seed: int) -> Callable[[], float]:
        """Returns a function that gives how good the detector is at that time, higher where better."""


@dataclass(frozen=True)
class Run:
    """How a training is run.

    Attributes:
        folder: for the checkpoint and the log; nothing is kept without one.
        resume: go on from the checkpoint there, if there is one.
        start: whose weights it starts from.
        processes: that train.
        device: that trains, as torch names it; `auto` for the best one.
    """

    folder: Path | None = None
    resume: bool = False
    start: Start = field(default_factory=Start)
    processes: int = 1
    device: str = "auto"

    def of_fold(self, fold: int) -> Run:
        """Returns how the training of a fold is run, by its number from 0; it starts from the beginning."""
        return replace(self, folder=self.folder and self.folder / f"fold{fold + 1}", start=Start())


class Training:
    """The training of one detector: its data are kept during the pass over the images, and then it is run.

    Args:
        detector: to be trained.
        data: empty.
        how: it is run.

    Raises:
        SettingError: the folder holds what would be overwritten.
    """

    def __init__(self, detector: Trained, data: TrainingData, how: Run) -> None:
        self.detector, self.data, self.how = detector, data, how
        self._learned: set[str] = set()
        if how.folder is not None:
            check_folder(how.folder, how.resume)

    def keep(self, chunk: Chunk) -> None:
        """Takes in the features of a batch during the pass over the images."""
        self.data.keep(chunk)
        self._learned |= set(chunk.digests.values())

    def run(self, progress: Progress | None) -> None:
        """Trains the detector; raises as `train_detector` does."""
        train_detector(self.detector, self.data, self.how, progress, self.how.start.note(self._learned))


def make_training(
    detector: Detector,
    recipe: Recipe,
    origin: str,
    images: Division,
    memory: int,
    how: Run,
) -> Training | None:
    """Returns the training of a trained detector; `None` for any other.

    Args:
        detector: empty.
        recipe: what is computed.
        origin: of the backbone's weights.
        images: whose part to fit is used.
        memory: bytes of features that may be kept in memory.
        how: it is run.

    Raises:
        SettingError: the folder holds what would be overwritten.
    """
    if not isinstance(detector, Trained):
        return None
    paths = [sample.path for sample in images.to_fit]
    files = ImageFiles(paths, recipe.geometry, margins=detector.sees_margins)
    if detector.sees_pixels:
        return Training(detector, files, how)
    decisive = {"backbone": recipe.backbone, "layers": list(recipe.layers), "backbone's weights": origin}
    judged = detector.patience is not None and detector.holds_back
    kept = KeptFeatures(FeatureCache(memory), recipe.seed, judged, decisive, files, how.start.before)
    return Training(detector, kept, how)


def train_detector(
    detector: Trained,
    data: TrainingData,
    how: Run,
    progress: Progress | None,
    note: Mapping[str, Any] | None = None,
) -> None:
    """Trains the detector in place, in a new order every epoch; then it learns how its own maps look.

    Args:
        detector: one that has taken in the features once.
        data: what it is trained on.
        how: it is run.
        progress: called with the stage, and how many steps or images of how many are done.
        note: kept in its checkpoints.

    Raises:
        TrainingError: it diverged, or one of several processes ended.
        StorageError: the checkpoint is of another training, or cannot be read or written.
        SettingError: the folder holds what would be overwritten.
        ImageError: an image can no longer be read.
    """

    def watch(step: Step, steps: int) -> None:
        if progress:
            progress("train", step.step + 1, steps)

    schedule = detector.schedule()
    kept = {name: value for name, value in detector.settings().items() if name not in LENGTHS}
    identity = {"detector": detector.name, **kept, **data.identity}
    module = detector.objective()
    judge = None if schedule.patience is None else data.judge(detector, module, schedule.seed)
    steps = train(
        module,
        data.batches,
        len(data),
        schedule,
        identity=identity,
        folder=how.folder,
        resume=how.resume,
        warm=how.start.warm,
        note=note,
        processes=how.processes,
        device=how.device,
        judge=judge,
        enough=detector.enough(),
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
    for order, found in zip(orders, data.features(orders), strict=True):
        yield found if isinstance(found, list) else [found]
        done += len(order)
        if progress:
            progress("settle", done, len(drawn))
