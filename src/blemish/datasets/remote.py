"""Reads folders elsewhere (`s3://bucket/folder`) in two layouts, plain folder and tree, from one listing."""

from __future__ import annotations

from pathlib import PurePosixPath

from blemish.datasets.sample import GOOD, Dataset, Sample
from blemish.errors import SourceError, StorageError
from blemish.images import Remote
from blemish.images.files import SUFFIXES
from blemish.storage.remote import files_below, size_of

LAYOUTS = ("folder", "tree")

Listing = dict[PurePosixPath, Remote]
"""Images by their path below the folder, in order."""


def read_remote(url: str, layout: str | None = None) -> Dataset:
    """Returns the data set at an address: an image, a folder or a tree, recognised unless the layout is given.

    Files and folders whose names begin with a dot are left out, as on this machine.

    Raises:
        SourceError: nothing is there, it cannot be reached, it holds no images, or it is not laid out as its layout
            says.
    """
    if layout is not None and layout not in LAYOUTS:
        raise SourceError(f"{layout} reads folders of this machine only; copy {url} here, or give tree:{url}")
    try:
        found = files_below(url)
        if not found:
            size = size_of(url)
            if size is None:
                raise SourceError(f"{url}: this folder is empty; check the address")
            if PurePosixPath(url).suffix.lower() not in SUFFIXES:
                known = ", ".join(sorted(SUFFIXES))
                raise SourceError(f"{url}: not an image; its name should end in one of {known}")
            return Dataset("one image", url, [Sample(Remote(url, size))])
    except StorageError as error:
        raise SourceError(str(error)) from None
    root = url.rstrip("/")
    paths = {PurePosixPath(name): Remote(f"{root}/{name}", size) for name, size in found.items()}
    images: Listing = {path: paths[path] for path in sorted(paths) if _is_image(path)}
    if layout == "tree" or (layout is None and _is_tree(list(paths))):
        return _tree(url, images, has_masks=any(path.parts[0] == "ground_truth" for path in paths))
    if not images:
        raise SourceError(f"{url}: no images in this folder; expected {', '.join(sorted(SUFFIXES))} files")
    return Dataset("plain folder", url, [Sample(image) for image in images.values()])


def _is_image(path: PurePosixPath) -> bool:
    return path.suffix.lower() in SUFFIXES and not any(part.startswith(".") for part in path.parts)


def _is_tree(paths: list[PurePosixPath]) -> bool:
    tops = {path.parts[0] for path in paths if len(path.parts) > 1}
    good = {path.parts[:2] for path in paths if len(path.parts) > 2}
    has_good = ("train", GOOD) in good or ("test", GOOD) in good
    return has_good or ("test" in tops and bool({"ground_truth", "train"} & tops))


def _tree(url: str, images: Listing, *, has_masks: bool) -> Dataset:
    train = [Sample(image) for path, image in images.items() if path.parts[:2] == ("train", GOOD)]
    has_train, has_test = (any(path.parts[0] == part for path in images) for part in ("train", "test"))
    if not train and (has_train or not has_test):
        raise SourceError(
            f"{url}: no images in train/{GOOD} of this tree; put the good images there, or give folder:{url} to take "
            "all images below it for good ones"
        )
    masks = {
        (path.parts[1], path.stem.removesuffix("_mask")): image
        for path, image in images.items()
        if path.parts[0] == "ground_truth" and len(path.parts) == 3
    }
    test = []
    for path, image in images.items():
        if path.parts[0] != "test" or len(path.parts) != 3:
            continue
        kind = path.parts[1]
        mask = masks.get((kind, path.stem)) if kind != GOOD else None
        if has_masks and kind != GOOD and mask is None:
            expected = f"{url.rstrip('/')}/ground_truth/{kind}/{path.stem}_mask.png"
            raise SourceError(f"{image}: has no mask; expected {expected}, as its tree has a ground_truth folder")
        test.append(Sample(image, kind, mask))
    return Dataset("MVTec-style tree", url, train, test, has_masks)
