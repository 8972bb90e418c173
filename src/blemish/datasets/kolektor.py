"""KolektorSDD (Tabernik et al. 2020) and KolektorSDD2 (Božič et al. 2021): a mask for every image, good ones too.

Only the mask says whether an image is good, so listing the images reads all masks.
"""

from __future__ import annotations

from pathlib import Path

from blemish.datasets.listing import folders_in, matching
from blemish.datasets.sample import Dataset, Sample, existing_folder, split_good
from blemish.errors import ImageError, SourceError
from blemish.images import decode_ahead, marks_anything

DEFECT = "defect"


def read_ksdd(path: str, seed: int = 0) -> Dataset:
    """Returns 80 % of the good commutators of KolektorSDD to fit on; the rest and the defective ones test.

    The folders are `kosNN` with `PartN.jpg` and `PartN_label.bmp`. The published folds are for supervised training;
    this split is the usual one where no defect is learned.

    Raises:
        SourceError: there is no such folder, an image has no mask or one that cannot be read, or none is good.
    """
    folders = [folder for folder in folders_in(existing_folder(path)) if folder.name.lower().startswith("kos")]
    images = [image for folder in folders for image in matching(folder, "part*.jpg")]
    if not images:
        raise SourceError(f"{path}: no images of KolektorSDD; expected {Path(path) / 'kos01'} with Part0.jpg")
    good, bad = _judged([(image, image.with_name(f"{image.stem}_label.bmp")) for image in images])
    if not good:
        raise SourceError(f"{path}: none of the {len(images)} images is good, as all masks mark something; check them")
    train, held = split_good(good, seed)
    test = [Sample(image) for image in held] + bad
    return Dataset("KolektorSDD", path, [Sample(image) for image in train], test, has_masks=True)


def read_ksdd2(path: str, seed: int = 0) -> Dataset:
    """Returns the published split of KolektorSDD2, without the defective images of `train`.

    The folders are `train` and `test`, with `NNNNN.png` and `NNNNN_GT.png`. The seed changes nothing.

    Raises:
        SourceError: a folder is absent or may not be read, an image has no mask or one that cannot be read, or no
            training image is good.
    """
    root = existing_folder(path)
    train, _ = _judged(_pairs(root / "train"))
    if not train:
        raise SourceError(f"{root / 'train'}: no good images; expected 10000.png with an empty 10000_GT.png")
    good, bad = _judged(_pairs(root / "test"))
    test = [Sample(image) for image in good] + bad
    return Dataset("KolektorSDD2", path, [Sample(image) for image in train], test, has_masks=True)


def _pairs(folder: Path) -> list[tuple[Path, Path]]:
    """Returns the images of a folder with their masks."""
    images = [image for image in matching(folder, "*.png") if not image.stem.lower().endswith("_gt")]
    return [(image, image.with_name(f"{image.stem}_GT.png")) for image in images]


def _judged(pairs: list[tuple[Path, Path]]) -> tuple[list[Path], list[Sample]]:
    """Returns the good images, and samples of the defective ones, by what their masks mark."""
    good, bad = [], []
    for (image, mask), marked in zip(pairs, decode_ahead(_marks, pairs, ahead=256), strict=True):
        if isinstance(marked, ImageError):
            raise SourceError(str(marked))
        if marked:
            bad.append(Sample(image, DEFECT, mask))
        else:
            good.append(image)
    return good, bad


def _marks(pair: tuple[Path, Path]) -> bool:
    image, mask = pair
    if not mask.is_file():
        raise ImageError(image, f"has no mask; expected {mask}")
    return marks_anything(mask)
