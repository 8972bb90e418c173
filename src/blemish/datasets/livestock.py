"""Livestock (Han et al. 2019, as published with VAE-GRF): empty grassland in `Train`, animals in `Test`."""

from __future__ import annotations

import os

from blemish.datasets.listing import matching
from blemish.datasets.sample import GOOD, Dataset, Sample, existing_folder
from blemish.errors import SourceError


def read_livestock(path: str, seed: int = 0) -> Dataset:
    """Returns the published split: `Train/*.jpg` are empty, `Test/*.jpg` show animals, with masks `<name>_gt.png`.

    Every test image shows an animal, so image AUROC and the like are undefined here; pixel figures are not.
    The seed changes nothing.

    Raises:
        SourceError: `Train` has no images, `Train` or `Test` may not be read, or a test image has no mask.
    """
    root = existing_folder(path)
    train = matching(root / "Train", "*.jpg")
    if not train:
        raise SourceError(f"{path}: no training images; expected {root / 'Train'} with .jpg files")
    test = []
    for image in matching(root / "Test", "*.jpg") if os.path.lexists(root / "Test") else []:
        mask = image.with_name(f"{image.stem}_gt.png")
        if not mask.is_file():
            raise SourceError(f"{image}: has no mask; expected {mask}")
        test.append(Sample(image, "animal", mask))
    return Dataset("Livestock", path, [Sample(image, GOOD) for image in train], test, has_masks=True)
