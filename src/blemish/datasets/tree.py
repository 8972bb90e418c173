"""Reads folder trees like that of MVTec AD, and the data sets of that kind: MVTec AD, AD 2 and LOCO, MPDD, BTAD.

They differ only in names, and LOCO has several masks for an image.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from blemish.datasets.groups import category_folder
from blemish.datasets.listing import folders_in, images_in, listed
from blemish.datasets.marks import Masks
from blemish.datasets.sample import GOOD, Dataset, Sample, Truth, existing_folder
from blemish.errors import SourceError


@dataclass(frozen=True)
class Names:
    """How a data set names the parts of its trees.

    Attributes:
        title: of the data set.
        good: the folder of good images in the training and in the test part.
        test: the test part.
        truth: the folder of the masks.
        many: whether every image has a folder of masks, instead of one mask.
    """

    title: str = "MVTec-style tree"
    good: str = GOOD
    test: str = "test"
    truth: str = "ground_truth"
    many: bool = False


def read_tree(path: str, seed: int = 0) -> Dataset:
    """Returns the images of a tree. The seed changes nothing.

    Its folders are `train/good`, `test/good`, `test/<defect>` and `ground_truth/<defect>/<name>[_mask].png`. Without
    `train` a tree has nothing to fit on, but can be predicted and evaluated.

    Raises:
        SourceError: `train/good` is empty, or it is absent and there is a `train` or no `test`; a folder of the tree
            may not be read; or the tree has masks and an anomalous image lacks its own.
    """
    return _read(existing_folder(path), path, Names())


def read_mvtec(path: str, seed: int = 0) -> Dataset:
    """Returns a category of MVTec AD (Bergmann et al. 2019): `train/good` trains, `test` tests, as published.

    Args:
        path: of the category, such as `mvtec_anomaly_detection/bottle`.
        seed: changes nothing.

    Raises:
        SourceError: as `read_tree` does; or the folder holds the categories, which are then named.
    """
    return _read(category_folder("mvtec", path), path, Names("MVTec AD"))


def read_mpdd(path: str, seed: int = 0) -> Dataset:
    """Returns a category of MPDD, painted metal parts (Jezek et al. 2021): `train/good` trains, `test` tests.

    Raises:
        SourceError: as `read_mvtec` does.
    """
    return _read(category_folder("mpdd", path), path, Names("MPDD"))


def read_btad(path: str, seed: int = 0) -> Dataset:
    """Returns a product of BTAD (Mishra et al. 2021): `train/ok` trains, `test/ok` and `test/ko` test, as published.

    Images and masks are BMP or PNG, and a mask has its image's stem, whatever its suffix.

    Raises:
        SourceError: as `read_mvtec` does.
    """
    return _read(category_folder("btad", path), path, Names("BTAD", good="ok"))


def read_mvtec_ad2(path: str, seed: int = 0) -> Dataset:
    """Returns a category of MVTec AD 2 (Heckler-Kram et al. 2025): `train/good` trains, `test_public` tests.

    `validation/good` is in neither part: it is meant for thresholds, and `blemish calibrate` takes it. The private test
    images have no public truth; give their folder to `blemish predict`.

    Raises:
        SourceError: as `read_mvtec` does.
    """
    names = Names("MVTec AD 2", test="test_public", truth="test_public/ground_truth")
    return _read(category_folder("mvtec_ad2", path), path, names)


def read_mvtec_loco(path: str, seed: int = 0) -> Dataset:
    """Returns a category of MVTec LOCO AD (Bergmann et al. 2022): `train/good` trains, `test` tests.

    The classes are `logical_anomalies` and `structural_anomalies`. An image has one or several masks in
    `ground_truth/<class>/<name>/`, whose values are numbers of defects; the truth is all that any of them marks. How
    much of a mask is enough (`defects_config.json`) counts for the data set's own sPRO alone, and is not read.
    `validation/good` is in neither part: it is meant for thresholds, and `blemish calibrate` takes it.

    Raises:
        SourceError: as `read_mvtec` does.
    """
    return _read(category_folder("mvtec_loco", path), path, Names("MVTec LOCO AD", many=True))


def _read(root: Path, path: str, names: Names) -> Dataset:
    good, test = root / "train" / names.good, root / names.test
    train: list[Sample] = []
    if os.path.lexists(root / "train") or not test.is_dir():
        if not good.is_dir():
            raise SourceError(
                f"{path}: no train/{names.good} in this tree; put the good images there, or give folder:{path} to take "
                "all images below it for good ones"
            )
        train = [Sample(image) for image in images_in(good, recursive=True)]
        if not train:
            raise SourceError(f"{good}: no images in this folder; put the good images there")
    truth = root / names.truth
    has_masks = os.path.lexists(truth)
    if has_masks:
        listed(truth)
    samples = []
    for folder in folders_in(test) if os.path.lexists(test) else []:
        if folder == truth:
            continue
        if folder.name == names.good:
            samples += [Sample(image) for image in images_in(folder)]
            continue
        kind, masks = _kind(folder), _masks(truth / folder.name, many=names.many) if has_masks else {}
        for image in images_in(folder):
            mask = masks.get(image.stem)
            if has_masks and mask is None:
                name = f"{image.stem}/000.png" if names.many else f"{image.stem}_mask.png"
                raise SourceError(
                    f"{image}: has no mask; expected {truth / folder.name / name}, as its tree has a ground_truth "
                    "folder"
                )
            samples.append(Sample(image, kind, mask))
    return Dataset(names.title, path, train, samples, has_masks)


def _kind(folder: Path) -> str:
    """Returns the class of a folder's images. Raises `SourceError` if it is the one of good images."""
    if folder.name == GOOD:
        raise SourceError(f"{folder}: holds images that are not good by this layout; rename it, or give another layout")
    return folder.name


def _masks(folder: Path, *, many: bool) -> dict[str, Truth]:
    """Returns masks by the stem of their image: `000_mask.png`, `000.png` and the folder `000` belong to `000`."""
    if not os.path.lexists(folder):
        return {}
    if not many:
        return {mask.stem.removesuffix("_mask"): mask for mask in images_in(folder)}
    found = {inner.name: tuple(images_in(inner)) for inner in folders_in(folder)}
    return {name: Masks(masks) for name, masks in found.items() if masks}
