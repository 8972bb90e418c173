"""What data sets with boxes have in common: images without boxes are good, and only these are used for training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from blemish.datasets.marks import Rectangle, TrueBoxes
from blemish.datasets.sample import GOOD, Dataset, Sample, split_good
from blemish.errors import SourceError

MAX_BOXES = 10_000
"""Boxes in one image, at most."""

SEVERAL = "several classes"
"""The class of an image with boxes of different ones."""


@dataclass(frozen=True)
class Boxed:
    """One image with its boxes.

    Attributes:
        image: the file.
        file: where the boxes stand.
        boxes: each with its class.
        size: height and width that the boxes are in units of.
    """

    image: Path
    file: Path
    boxes: list[tuple[Rectangle, str]]
    size: tuple[int, int] = (1, 1)

    def sample(self) -> Sample:
        """Returns the image with its class and its truth. Raises `SourceError` if it has too many boxes."""
        if not self.boxes:
            return Sample(self.image)
        if len(self.boxes) > MAX_BOXES:
            found = f"{len(self.boxes):,} boxes in {self.image.name}"
            raise SourceError(f"{self.file}: has {found}, more than the limit of {MAX_BOXES:,}; cut the image")
        kinds = {kind for _, kind in self.boxes}
        mark = TrueBoxes(self.file, tuple(box for box, _ in self.boxes), self.size)
        return Sample(self.image, kinds.pop() if len(kinds) == 1 else SEVERAL, mark)


def boxed_dataset(layout: str, path: str, learned: list[Boxed], tested: list[Boxed] | None, seed: int) -> Dataset:
    """Returns the data set of images with boxes.

    Args:
        layout, path: what it is, and where.
        learned: images whose good ones are for training.
        tested: images for testing; `None` to test on a fifth of the good images of `learned`, drawn by seed, and on all
            others.
        seed: of that split.

    Raises:
        SourceError: no image is without boxes.
    """
    samples = [boxed.sample() for boxed in learned]
    good = [sample for sample in samples if sample.kind == GOOD]
    if not good:
        raise SourceError(f"{path}: every one of its {len(samples)} images has boxes; only those without can train")
    if tested is not None:
        return Dataset(layout, path, good, [boxed.sample() for boxed in tested], has_masks=True)
    train, held = split_good([boxed.image for boxed in learned if not boxed.boxes], seed)
    test = [Sample(image) for image in held] + [sample for sample in samples if sample.is_anomalous]
    return Dataset(layout, path, [Sample(image) for image in train], test, has_masks=True)
