"""DAGM 2007: made-up textures, `Class<N>/{Train,Test}/NNNN.PNG`, defects with `Label/NNNN_label.PNG`."""

from __future__ import annotations

import os
from pathlib import Path

from blemish.datasets.groups import category_folder
from blemish.datasets.listing import matching
from blemish.datasets.sample import Dataset, Sample
from blemish.datasets.texts import read_text
from blemish.errors import SourceError

MAX_BYTES = 4 << 20
"""Bytes of a list of labels, at most; a published one has 30 kB."""

ENDING = "_label"


def read_dagm(path: str, seed: int = 0) -> Dataset:
    """Returns the good images of a class's `Train` to fit on and all of its `Test`.

    The published training part has defects too, for supervised training; they are left out. The masks are ellipses
    around the defects, larger than these. Where `Label/Labels.txt` is there, every mask that it names must be, too.

    Args:
        path: of the class, such as `DAGM/Class1`.
        seed: changes nothing.

    Raises:
        SourceError: the folder holds the classes, which are then named; a part is absent or may not be read; a mask
            is missing, or has no image.
    """
    root = category_folder("dagm", path)
    train = [sample for sample in _part(root / "Train") if not sample.is_anomalous]
    if not train:
        raise SourceError(f"{path}: no good training images; expected {root / 'Train'} with 0001.PNG")
    test = _part(root / "Test") if os.path.lexists(root / "Test") else []
    return Dataset("DAGM 2007", path, train, test, has_masks=True)


def _part(folder: Path) -> list[Sample]:
    images = {image.stem.lower(): image for image in matching(folder, "*.png")}
    labels = folder / "Label"
    if not os.path.lexists(labels):
        raise SourceError(f"{folder}: no masks; expected {labels} with <name>{ENDING}.PNG for every defective image")
    masks = {mask.stem.lower().removesuffix(ENDING): mask for mask in matching(labels, f"*{ENDING}.png")}
    for file in matching(labels, "labels.txt"):
        named = {word.lower() for word in read_text(file, MAX_BYTES).split() if word.lower().endswith(f"{ENDING}.png")}
        missing = sorted(name for name in named if name.removesuffix(f"{ENDING}.png") not in masks)
        if missing:
            raise SourceError(f"{file}: names {missing[0]}, which is not there; fetch {labels} again")
    for stem, mask in masks.items():
        if stem not in images:
            raise SourceError(f"{mask}: has no image; expected {folder / stem}.PNG")
    return [Sample(image, "defect" if stem in masks else "good", masks.get(stem)) for stem, image in images.items()]
