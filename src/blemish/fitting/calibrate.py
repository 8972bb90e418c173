"""Scores of images by models that did not see them, from which a model is calibrated: held out, or cross-fitted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from blemish.calibration import Gathered, assign_folds
from blemish.datasets import Sample
from blemish.engines.gather import gather
from blemish.engines.stream import Chunk, tensors
from blemish.fitting.kept import Kept
from blemish.fitting.passes import Passes
from blemish.fitting.split import Division

if TYPE_CHECKING:
    from blemish.detectors import Detector

AT_ONCE = 2
"""Models without one fold that exist at one time, at most."""


def hold_out(detector: Detector, passes: Passes, images: Division) -> Gathered:
    """Returns the scores of the held-out images.

    A batch is scored after the detector learned from the images to fit, by one scoring module for all batches. A
    detector that learns in one pass then takes in the held-out images too; a trained one does not.

    Args:
        detector: one that has learned from the images to fit.
        passes: of this fit.
        images: whose part to calibrate is used.

    Raises:
        BadImagesError: an image cannot be read, or none is left.
        DegenerateError: a score is not finite, or all images are the same.
    """
    from blemish.detectors import Trained
    from blemish.detectors.scoring import Scoring

    scoring = Scoring(detector, passes.geometry.shape)

    def scored() -> Iterator[Chunk]:
        for chunk in passes.over("calibrate", images.to_calibrate):
            real = chunk.real()
            yield replace(real, arrays=scoring.arrays_to_calibrate(tensors(real.arrays)))
            if not isinstance(detector, Trained):
                detector.update(tensors(chunk.arrays))

    gathered = Gathered()
    _gather(gathered, scored(), images.to_calibrate, detector, passes, images)
    passes.variety.check(images.dataset.root)
    passes.check_enough(len(gathered))
    return gathered


def cross_fit(detector: Detector, passes: Passes, images: Division, kept: Kept, seed: int) -> Gathered:
    """Returns the scores of all images, each by a model of the images of other folds.

    Where a detector can leave each image out by itself at once, and no folds were asked for, each is a fold of its own.

    Args:
        detector: one that has learned from all images; it is not changed.
        passes: of this fit.
        images: all are to fit.
        kept: the features of all images.
        seed: of the division into folds.

    Raises:
        DegenerateError: a score is not finite.
        SettingError: there are too few images for a model without one fold.
    """
    found = _each_by_all_others(detector, passes, images, kept) if images.folds is None else None
    return found or _by_folds(detector, passes, images, kept, seed)


def _each_by_all_others(detector: Detector, passes: Passes, images: Division, kept: Kept) -> Gathered | None:
    """Returns the scores of all images, each by all others; `None` if the detector does not tell them at once."""
    from blemish.detectors.scoring import Scoring

    alone = detector.each_left_out() if kept.is_distinct else None
    if alone is None:
        return None
    scoring = Scoring(alone, passes.geometry.shape)
    gathered = Gathered(folds=len(kept.digests))
    for chunk in kept.chunks():
        scored = replace(chunk, arrays=scoring.arrays_to_calibrate(tensors(chunk.arrays)))
        if not np.isfinite(scored.arrays[0]).all():
            return None
        _gather(gathered, [scored], images.to_fit, detector, passes, images)
        if passes.progress:
            passes.progress("cross-fit", len(gathered), len(kept.digests))
    return gathered


def _by_folds(detector: Detector, passes: Passes, images: Division, kept: Kept, seed: int) -> Gathered:
    """Returns the scores of all images, each by a model without its fold."""
    import torch

    from blemish.detectors.scoring import Scoring

    numbers = np.asarray(list(kept.digests), np.int64)
    folds = assign_folds(list(kept.digests.values()), seed, images.folds)
    gathered = Gathered(folds=int(folds.max()) + 1)

    def scores_of(fold: int) -> Gathered:
        rows = kept.rows_of(numbers[folds == fold])
        scoring = Scoring(detector.without(rows, kept.features(rows)), passes.geometry.shape)
        real = (chunk.real() for chunk in kept.chunks(rows))
        scored = (
            replace(chunk, arrays=scoring.arrays_to_calibrate(tensors(chunk.arrays))) for chunk in real if chunk.indices
        )
        own = Gathered()
        _gather(own, scored, images.to_fit, detector, passes, images)
        return own

    threads = torch.get_num_threads()
    # Folds side by side, each in one thread, are quicker than one after the other in several.
    with ThreadPoolExecutor(min(AT_ONCE, threads), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            first = scores_of(0)  # by itself, since it computes what the others share
            for own in chain([first], pool.map(scores_of, range(1, gathered.folds))):
                gathered = gathered.merge(own)
                if passes.progress:
                    passes.progress("cross-fit", len(gathered), len(numbers))
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(threads)
    return gathered


def _gather(
    gathered: Gathered,
    chunks: Iterable[Chunk],
    samples: Sequence[Sample],
    detector: Detector,
    passes: Passes,
    images: Division,
) -> None:
    """Takes in the score and the map of each image of the chunks. Raises `DegenerateError` if one is not finite."""
    paths = [sample.path for sample in samples]
    gather(gathered, chunks, passes.geometry, paths, lambda index: images.name_of(paths[index]), detector.name)
