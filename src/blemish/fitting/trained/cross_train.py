"""Cross-fits a trained detector: it is trained again for each fold, on features that are computed once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from blemish.calibration import Gathered, assign_folds
from blemish.datasets import Sample
from blemish.detectors import make_detector
from blemish.engines.stream import Chunk
from blemish.fitting.calibrate import hold_out
from blemish.fitting.kept import Kept
from blemish.fitting.learn import learn
from blemish.fitting.passes import Passes
from blemish.fitting.split import Division
from blemish.fitting.trained.learn import Run, make_training
from blemish.images import Location
from blemish.model import Recipe


@dataclass
class Replay(Passes):
    """Passes over features that were kept, so that the backbone does not run again.

    Attributes:
        kept: features of the images.
        numbers: by which these images are known there, by path.
    """

    kept: Kept = field(default_factory=lambda: Kept(0))
    numbers: dict[Location, int] = field(default_factory=dict)

    def over(self, stage: str, samples: Sequence[Sample], later: Sequence[Sample] = ()) -> Iterator[Chunk]:
        own = {self.numbers[sample.path]: index for index, sample in enumerate(samples)}
        done = 0
        for chunk in self.kept.part(own).chunks():
            self.variety.update(chunk.arrays)
            yield replace(
                chunk,
                indices=[own[index] for index in chunk.indices],
                digests={own[index]: digest for index, digest in chunk.digests.items()},
            )
            done += chunk.finished
            if self.progress:
                self.progress(stage, done, len(samples))


def cross_train(
    recipe: Recipe,
    origin: str,
    passes: Passes,
    images: Division,
    kept: Kept,
    memory: int,
    how: Run,
) -> Gathered:
    """Returns the scores of all images, each by a detector that was trained on the images of other folds.

    Args:
        recipe: of the detector.
        origin: of the backbone's weights.
        passes: of this fit.
        images: all are to fit.
        kept: the features of all images.
        memory: bytes of features that may be kept in memory for one training.
        how: the trainings are run; each fold has a folder of its own.

    Raises:
        BlemishError: as `learn` and `hold_out` do.
    """
    indices = list(kept.digests)
    samples = [images.to_fit[index] for index in indices]
    numbers = {sample.path: index for sample, index in zip(samples, indices, strict=True)}
    folds = assign_folds(list(kept.digests.values()), recipe.seed, images.folds)
    gathered = Gathered(folds=int(folds.max()) + 1)
    for fold in range(gathered.folds):
        own = [sample for sample, number in zip(samples, folds.tolist(), strict=True) if number == fold]
        others = [sample for sample, number in zip(samples, folds.tolist(), strict=True) if number != fold]
        divided = replace(images, to_fit=others, to_calibrate=own)
        detector = make_detector(recipe.detector, recipe.settings)
        replay = Replay(passes.engine, passes.geometry, passes.skip_bad, passes.progress, kept=kept, numbers=numbers)
        learn(detector, replay, divided, make_training(detector, recipe, origin, divided, memory, how.of_fold(fold)))
        gathered = gathered.merge(hold_out(detector, replay, divided))
    return gathered
