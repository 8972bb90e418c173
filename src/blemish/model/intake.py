"""Reads new images for a model: each is scored by the model as it was, before anything is learned from it."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from blemish.calibration import Gathered
from blemish.datasets import Dataset, read_source
from blemish.datasets.sample import name_below
from blemish.engines.stream import Chunk, NotFiniteError, stream, tensors, whole
from blemish.errors import BadImagesError, DegenerateError, ImageError, SourceError
from blemish.images import Copies, Given, ImageLike, Remote, each
from blemish.model.inside import Arrivals
from blemish.model.model import Model
from blemish.model.provenance import NAMED
from blemish.progress import Progress

if TYPE_CHECKING:
    from blemish.detectors import Detector

Images = Given | Iterable[Given] | Dataset

MEMORY = "memory"
"""The source of images that were given in memory, such as arrays."""


@dataclass(frozen=True)
class NewImages:
    """Images that were given, what they are called, and where they came from."""

    root: str
    images: list[ImageLike]
    names: list[str]

    @classmethod
    def of(cls, given: Images, seed: int, *, bgr: bool = False) -> NewImages:
        """Returns the good images of sources or a data set, and images in memory as they are.

        Raises:
            SourceError: a source is missing or empty.
        """
        if isinstance(given, Dataset):
            return cls._of_dataset(given)
        roots: dict[str, None] = {}  # each once, in order
        images: list[ImageLike] = []
        names: list[str] = []
        for one in each(given, bgr=bgr):
            if isinstance(one, (str, Path, Remote)):
                more = cls._of_dataset(read_source(str(one), seed))
            else:
                more = cls(MEMORY, [one], [f"image {len(images) + 1}"])
            roots[more.root] = None
            images += more.images
            names += more.names
        if not images:
            raise SourceError("no image was given; give a folder, a data set, or images")
        return cls(several([*roots]), images, names)

    @classmethod
    def _of_dataset(cls, dataset: Dataset) -> NewImages:
        paths = [sample.path for sample in dataset.train]
        if not paths:
            raise SourceError(f"{dataset.root}: has no good image; give at least 1")
        return cls(dataset.root, [*paths], [name_below(dataset.root, path) for path in paths])


class Intake:
    """Scores new images, lets a detector learn from them, and keeps what was found.

    Attributes:
        gathered: the scores of all new images.
        anomalous: names and p-values of those above the threshold, by digest.
        bad: the images that could not be read.
        repeated: how many the model has learned from already, or came twice.
    """

    def __init__(self, model: Model, given: NewImages, skip_bad: bool) -> None:
        self.model, self.given, self.skip_bad = model, given, skip_bad
        self.gathered = Gathered()
        self.anomalous: dict[str, tuple[str, float]] = {}
        self.bad: list[ImageError] = []
        self.repeated = 0
        self._arrivals = Arrivals()

    @property
    def rows(self) -> dict[str, int]:
        """The rows of features that each new image gave, by digest."""
        return self._arrivals.rows

    def run(self, fresh: Detector | None, left_out: Container[str], progress: Progress | None) -> None:
        """Scores the images that the model has not learned from yet, and learns from them.

        Args:
            fresh: the detector that learns from them, in place; `None` to only score them.
            left_out: digests of images that are skipped.
            progress: called with the stage, and how many images of how many are done.

        Raises:
            BadImagesError: images cannot be read, and may not be skipped.
            DegenerateError: an image has no finite score.
        """
        model, names = self.model, self.given.names
        for scored in whole(self._scored(fresh, left_out, progress), model.recipe.geometry):
            name = names[scored.index]
            if isinstance(scored.error, NotFiniteError):
                raise DegenerateError(f"{name}: its score is not finite, so nothing was learned; leave this image out")
            if scored.map is None:
                continue
            self.gathered.update(scored.score, scored.map, name, scored.digest, scored.layers)
            if scored.score > model.threshold:
                (p_value,) = model.calibration.p_values([scored.score]).tolist()
                self.anomalous[scored.digest] = (name, p_value)
        if self.bad and not self.skip_bad:
            raise BadImagesError(self.bad, "nothing was learned; fix them, or leave them out with --skip-bad")
        self._arrivals.finish()

    def _scored(self, fresh: Detector | None, left_out: Container[str], progress: Progress | None) -> Iterator[Chunk]:
        """Yields the scores and maps of the images, by the model as it was."""
        model, geometry, total = self.model, self.model.recipe.geometry, len(self.given.images)
        copies = Copies(model.recipe.copies if fresh else 0, model.recipe.seed)
        known = Where(lambda digest: digest in model.inside or digest in left_out)
        stage, done = "update" if fresh else "predict", 0
        for chunk in stream(model.extractor, self.given.images, geometry, copies, known):
            self.bad += chunk.errors.values()
            self.repeated += sum(digest not in left_out for digest in chunk.repeated.values())
            if len(self.bad) > NAMED and not self.skip_bad:
                return
            if chunk.indices:
                self._arrivals.update(chunk)
                real = chunk.real()
                yield replace(real, arrays=model.scoring.arrays_to_calibrate(tensors(real.arrays)))
                if fresh:
                    fresh.update(tensors(chunk.arrays))
            done += chunk.finished
            if progress:
                progress(stage, done, total)


def good_by_chance(model: Model, judged: Intake) -> Gathered:
    """Returns the scores of images that were left out and still calibrate, since they are probably good.

    If none of them did, each update would lose the highest scores of good images, and the threshold would fall. So the
    lowest of these scores calibrate: over all updates that left out images, as many as good images would exceed the
    threshold by chance, by the stated rate.
    """
    former = [change for change in model.provenance.changes if change.left_out]
    came = sum(change.images + change.anomalous for change in former) + len(judged.gathered)
    allowed = math.floor(model.calibration.rate * came + 0.5) - sum(change.calibrating for change in former)
    digests, found = judged.gathered.digests, judged.gathered.scores
    above = sorted((item for item in range(len(found)) if digests[item] in judged.anomalous), key=found.__getitem__)
    return judged.gathered.part(above[: max(0, allowed)])


class Where(Container[str]):
    """A container of all digests for which a function returns true."""

    def __init__(self, is_true: Callable[[str], bool]) -> None:
        self._is_true = is_true

    def __contains__(self, digest: object) -> bool:
        return self._is_true(str(digest))


def several(names: list[str]) -> str:
    """Returns the first few of these names in a line, and how many more there are."""
    rest = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {rest} more" if rest > 0 else "")
