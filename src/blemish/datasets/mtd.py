"""Magnetic Tile Defects (Huang et al. 2020): `MT_<class>/Imgs/<name>.jpg` with `<name>.png` as its mask."""

from __future__ import annotations

from blemish.datasets.listing import folders_in, matching
from blemish.datasets.sample import Dataset, Sample, existing_folder, split_good
from blemish.errors import SourceError


def read_mtd(path: str, seed: int = 0) -> Dataset:
    """Returns 80 % of the good tiles to fit on; the rest and every defect test (the usual split in papers).

    Raises:
        SourceError: the good tiles are absent, a class's `Imgs` is absent or may not be read, or a defect has no mask.
    """
    root = existing_folder(path)
    good = matching(root / "MT_Free" / "Imgs", "*.jpg")
    if not good:
        raise SourceError(f"{path}: no good tiles; expected {root / 'MT_Free' / 'Imgs'} with .jpg files")
    train, held = split_good(good, seed)
    test = [Sample(image) for image in held]
    for folder in folders_in(root):
        if not folder.name.startswith("MT_") or folder.name == "MT_Free":
            continue
        kind = folder.name.removeprefix("MT_").lower()
        for image in matching(folder / "Imgs", "*.jpg"):
            mask = image.with_suffix(".png")
            if not mask.is_file():
                raise SourceError(f"{image}: has no mask; expected {mask}")
            test.append(Sample(image, kind, mask))
    return Dataset("Magnetic Tile Defects", path, [Sample(image) for image in train], test, has_masks=True)
