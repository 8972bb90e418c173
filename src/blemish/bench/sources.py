"""Finds the data of a protocol: the categories below a root, each a source of its own."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from blemish.datasets import classes, find_categories, read_source
from blemish.errors import SourceError

ONE_CLASS = {
    "MNIST": ("mnist.npz", "mnist"),
    "Fashion-MNIST": ("fashion-mnist.npz", "fashion-mnist"),
    "CIFAR-10": ("cifar10.npz", "cifar-10-batches-py", "cifar10"),
}
"""Names of the files of each data set."""

CLASSES = 10
"""Classes of each of them."""


def categories(root: str) -> dict[str, str]:
    """Returns the sources below a root by name: its trees, or the root itself if it is a data set.

    Raises:
        SourceError: there is no data set.
    """
    folder = Path(root)
    if folder.is_dir() and not (folder / "train").is_dir():
        with suppress(SourceError):
            return find_categories("mvtec", root)
    dataset = read_source(root)
    if not dataset.test:
        raise SourceError(
            f"{root}: has no labelled images to measure on; give a tree, or the folder with the trees of all categories"
        )
    return {folder.name or root: root}


def scenes(root: str) -> dict[str, str]:
    """Returns the scenes of ShanghaiTech Campus. Raises `SourceError` if the folder holds none."""
    return find_categories("stc", root)


def all_classes(root: str) -> dict[str, str]:
    """Returns the source of each class of MNIST, Fashion-MNIST and CIFAR-10 below a root, by names such as `MNIST/3`.

    Raises:
        SourceError: none of them is there.
    """
    found: dict[str, str] = {}
    for name, places in ONE_CLASS.items():
        paths = [Path(root) / place for place in places]
        if Path(root).name in places:
            paths.insert(0, Path(root))
        for path in paths:
            if path.exists():
                kinds = classes(str(path))
                found |= {f"{name}/{number}": f"one_class:{path}:{kind}" for number, kind in enumerate(kinds)}
                break
    if not found:
        names = ", ".join(places[0] for places in ONE_CLASS.values())
        raise SourceError(f"{root}: holds none of {names}; give the folder that does, or one of these files")
    return found
