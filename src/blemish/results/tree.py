"""Makes a labelled tree from a person's review: folders with copies of the images, which `fit` and `evaluate` read."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from blemish.datasets.sample import GOOD, split_good
from blemish.errors import SettingError, SourceError
from blemish.images import name_of, read_size
from blemish.images.reading import whole_image
from blemish.progress import Progress
from blemish.results.names import Names, safe
from blemish.results.reviewed import Reviewed
from blemish.storage import new_folder
from blemish.storage.remote import is_remote

ANOMALOUS = "anomalous"


@dataclass(frozen=True)
class Tree:
    """The counts of a tree.

    Attributes:
        train: good images in `train/good`.
        good: good images in `test/good`.
        anomalous: images in `test/anomalous`.
        masks: images with a mask.
    """

    train: int
    good: int
    anomalous: int
    masks: int

    def as_dict(self) -> dict[str, int]:
        return asdict(self)


def write_tree(
    reviewed: Sequence[Reviewed],
    folder: str | Path,
    *,
    train: float = 0.0,
    masks: bool = True,
    seed: int = 0,
    force: bool = False,
    progress: Progress | None = None,
) -> Tree:
    """Writes copies of the images to `test/good` and `test/anomalous`, and masks to `ground_truth/anomalous`.

    The images themselves are not changed. A mask is white inside accepted boxes. The folder is written whole or not at
    all. Returns the counts.

    Args:
        reviewed: the images that a person reviewed.
        folder: new, or with `force` one that this function wrote and nobody changed.
        train: share of the good images that go to `train/good`, chosen by seed, so that a model can be fitted too.
        masks: whether to write masks; each anomalous image then needs a box.
        seed: of that choice.
        force: replace what is there.
        progress: called with the stage, and how many images of how many are done.

    Raises:
        SettingError: the share is not from 0 to below 1.
        SourceError: an image is on another machine, its size has changed, or an anomalous image has no box.
        ImageError: an image cannot be read.
        StorageError: the folder exists and may not be replaced, or cannot be written.
    """
    if not 0 <= train < 1:
        raise SettingError(f"share {train} is out of range; give 0 to train on none of them, or up to 0.99")
    _check(reviewed, masks)
    good = [Path(one.path) for one in reviewed if not one.is_anomaly]
    learned = set(split_good(good, seed, train)[0])
    counts = {"train": 0, GOOD: 0, ANOMALOUS: 0, "masks": 0}
    names = {part: Names(()) for part in ("train", GOOD, ANOMALOUS)}
    with new_folder(folder, "tree", force=force) as root:
        for done, one in enumerate(reviewed, 1):
            path = Path(one.path)
            part = ANOMALOUS if one.is_anomaly else "train" if path in learned else GOOD
            target = root / ("train/good" if part == "train" else f"test/{part}")
            target.mkdir(parents=True, exist_ok=True)
            name = names[part].free(Path(safe(one.name.replace("/", "_"))))
            written = _copy(path, target / name, one)
            counts[part] += 1
            if one.is_anomaly and masks:
                truth = root / "ground_truth" / ANOMALOUS
                truth.mkdir(parents=True, exist_ok=True)
                _mask(one).save(truth / f"{written.stem}_mask.png")
                counts["masks"] += 1
            if progress:
                progress("copy", done, len(reviewed))
    return Tree(counts["train"], counts[GOOD], counts[ANOMALOUS], counts["masks"])


def _check(reviewed: Sequence[Reviewed], masks: bool) -> None:
    elsewhere = [one.path for one in reviewed if is_remote(one.path)]
    if elsewhere:
        raise SourceError(
            f"{elsewhere[0]}: is not on this machine; copy the images here, then predict and review them here"
        )
    bare = [one.path for one in reviewed if one.is_anomaly and not one.boxes]
    if bare and masks:
        what = "1 anomalous image has" if len(bare) == 1 else f"{len(bare)} anomalous images have"
        raise SourceError(
            f"{bare[0]}: {what} no accepted box, so there is no mask; draw a box on the page, or give --no-masks for a "
            "tree without masks"
        )


def _copy(path: Path, target: Path, one: Reviewed) -> Path:
    """Copies an image, or writes an image of a file of several as PNG; returns the path of the copy."""
    size = read_size(path)
    if size != one.size:
        raise SourceError(
            f"{name_of(path)}: is {size[0]}x{size[1]} and was {one.size[0]}x{one.size[1]} when it was reviewed; "
            "predict and review it again"
        )
    if path.is_file():
        shutil.copyfile(path, target)
        return target
    target = target.with_suffix(".png")
    with whole_image(path) as image:
        image.save(target)
    return target


def _mask(one: Reviewed) -> Image.Image:
    """Returns the filled boxes, white on black."""
    marked = np.zeros(one.size, np.uint8)
    for top, left, bottom, right in one.boxes:
        marked[top:bottom, left:right] = 255
    return Image.fromarray(marked)
