"""Plain folders, and trees as MVTec AD lays them out."""

from __future__ import annotations

import os
from pathlib import Path

from blemish.datasets.listing import folders_in, images_in, listed
from blemish.datasets.sample import GOOD, Dataset, Sample, existing_folder
from blemish.errors import SourceError
from blemish.images.files import SUFFIXES


def read_folder(path: str, seed: int = 0) -> Dataset:
    """Returns every image below a folder, or one image file, as good training images. The seed changes nothing."""
    single = Path(path)
    if single.is_file():
        if single.suffix.lower() not in SUFFIXES:
            raise SourceError(f"{path}: not an image; its name should end in one of {', '.join(sorted(SUFFIXES))}")
        return Dataset("one image", path, [Sample(single)])
    folder = existing_folder(path)
    images = images_in(folder, recursive=True)
    if not images:
        raise SourceError(f"{path}: no images in this folder; expected {', '.join(sorted(SUFFIXES))} files")
    return Dataset("plain folder", path, [Sample(image) for image in images])


def read_tree(path: str, seed: int = 0) -> Dataset:
    """Returns the images of a tree. The seed changes nothing.

    Its folders are `train/good`, `test/good`, `test/<defect>` and `ground_truth/<defect>/<name>[_mask].png`. Without
    `train` a tree has nothing to fit on, but can be predicted and evaluated.

    Raises:
        SourceError: `train/good` is empty, or absent beside another `train` or without a `test`; a folder of the tree
            may not be read; or the tree has masks and an anomalous image lacks its own.
    """
    root = existing_folder(path)
    good = root / "train" / GOOD
    train: list[Sample] = []
    if os.path.lexists(root / "train") or not (root / "test").is_dir():
        if not good.is_dir():
            raise SourceError(
                f"{path}: no train/{GOOD} in this tree; put the good images there, or give folder:{path} to take all "
                "images below it for good ones"
            )
        train = [Sample(image) for image in images_in(good, recursive=True)]
        if not train:
            raise SourceError(f"{good}: no images in this folder; put the good images there")
    truth = root / "ground_truth"
    has_masks = os.path.lexists(truth)
    if has_masks:
        listed(truth)
    test = []
    for folder in folders_in(root / "test") if os.path.lexists(root / "test") else []:
        masks = _masks_by_stem(truth / folder.name) if has_masks and folder.name != GOOD else {}
        for image in images_in(folder):
            mask = masks.get(image.stem)
            if has_masks and folder.name != GOOD and mask is None:
                expected = truth / folder.name / f"{image.stem}_mask.png"
                raise SourceError(f"{image}: has no mask; expected {expected}, as its tree has a ground_truth folder")
            test.append(Sample(image, folder.name, mask))
    return Dataset("MVTec-style tree", path, train, test, has_masks)


def _masks_by_stem(folder: Path) -> dict[str, Path]:
    """Returns masks by the stem of their image: `000_mask.png` and `000.png` both belong to `000`."""
    return {mask.stem.removesuffix("_mask"): mask for mask in images_in(folder)} if os.path.lexists(folder) else {}
