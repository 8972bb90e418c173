"""A detector trained on files of images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from blemish.detectors import Detector
from blemish.engines import BATCH
from blemish.errors import ImageError
from blemish.images import Geometry, Pixels, count_tiles, decode_ahead, read_image, read_tile
from blemish.training.loop import LENGTHS, Schedule, Step, train
from blemish.training.spots import Spotted

T = TypeVar("T")

SETTLING = 512
"""Images at most from which a trained detector learns what its maps of normal images are like."""

SPOTTED = 64
"""Images at most by which training is judged."""


def train_detector(
    detector: Detector,
    paths: Sequence[Path],
    geometry: Geometry,
    folder: Path | None,
    resume: bool,
    progress: Callable[[str, int, int], None] | None,
) -> None:
    """Its steps along the gradient, over images or tiles in a new order every epoch; then what its maps are like.

    Args:
        detector: that has seen the images once.
        paths: of the images.
        geometry: of the images.
        folder: for the checkpoint and the log; nothing is kept without one.
        resume: go on from the checkpoint there, if there is one.
        progress: told the stage, and how many of how many steps or images are done.

    Raises:
        TrainingError: it diverged.
        ModelError: the checkpoint is of another training, or cannot be read or written.
        ImageError: an image can be read no longer.
    """

    samples = _Samples(paths, geometry)

    def batches(orders: list[list[int]]) -> Iterator[torch.Tensor]:
        chosen = [index for order in orders for index in order]
        decoded = decode_ahead(samples.read, chosen, ahead=2 * BATCH)
        for order in orders:
            images = [_known(image) for image in islice(decoded, len(order))]
            yield torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255

    def watch(step: Step, steps: int) -> None:
        if progress:
            progress("train", step.step + 1, steps)

    settings = detector.settings()
    schedule = Schedule(**{field.name: settings[field.name] for field in fields(Schedule)})
    names = hashlib.sha256("\n".join(map(str, paths)).encode()).hexdigest()
    kept = {name: value for name, value in settings.items() if name not in LENGTHS}
    identity = {"detector": detector.name, **kept, "shape": list(geometry.shape), "paths": names}
    module = detector.objective()
    judge = None if schedule.patience is None else _judge(detector, module, samples, schedule.seed)
    steps = train(
        module,
        batches,
        len(samples),
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
    drawn = np.random.default_rng([schedule.seed, SETTLING]).permutation(len(samples))[:SETTLING]
    for done, images in enumerate(
        batches([drawn[start : start + BATCH].tolist() for start in range(0, len(drawn), BATCH)])
    ):
        detector.settle([images])
        if progress:
            progress("settle", min((done + 1) * BATCH, len(drawn)), len(drawn))


def _judge(detector: Detector, module: nn.Module, samples: _Samples, seed: int) -> Callable[[], float]:
    """How well spots over some of the images are found by the detector's map as it stands."""
    drawn = np.random.default_rng([seed, SPOTTED]).permutation(len(samples))[:SPOTTED].tolist()
    spotted = Spotted.over([_known(image) for image in decode_ahead(samples.read, drawn)], seed)

    def judge() -> float:
        device = next(module.parameters()).device
        maps = []
        for start in range(0, len(spotted.images), BATCH):
            images = (
                torch.from_numpy(spotted.images[start : start + BATCH]).to(device).permute(0, 3, 1, 2).float() / 255
            )
            maps.append(detector.judged_map([images]).float().cpu())
        return spotted.found(torch.cat(maps).numpy())

    return judge


class _Samples:
    """What there is to train on, by number: images, or the tiles of photographs, each of which is decoded for it."""

    def __init__(self, paths: Sequence[Path], geometry: Geometry) -> None:
        self.paths, self.geometry = paths, geometry
        counts = [1] * len(paths)
        if geometry.tile is not None:
            counts = [_known(count) for count in decode_ahead(partial(count_tiles, geometry=geometry), paths)]
        self._ends = np.cumsum(counts)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def read(self, number: int) -> Pixels:
        """Raises `ImageError` if it can be read no longer."""
        index = int(np.searchsorted(self._ends, number, side="right"))
        path = self.paths[index]
        if self.geometry.tile is None:
            return read_image(path, self.geometry)
        first = int(self._ends[index - 1]) if index else 0
        return read_tile(path, number - first, self.geometry)


def _known(found: T | ImageError) -> T:
    if isinstance(found, ImageError):
        raise found  # it could be read a moment ago, and no longer
    return found
