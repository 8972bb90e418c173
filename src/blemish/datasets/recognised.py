"""Recognises the layout of a folder by the names in it; an ambiguous folder has none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from blemish.datasets.listing import folders_in, matching
from blemish.datasets.sample import GOOD
from blemish.errors import SourceError

BEGINNING = 1 << 16
"""The first bytes of a JSON file, which are searched."""


def recognise(path: Path) -> str:
    """Returns the layout of a folder or a file, `folder` if it has the names of no other.

    Raises:
        SourceError: it holds several data sets, or boxes that would be ignored, so that defects would count as good
            images; or it may not be read.
    """
    if (named := _named(path)) is not None:
        return named
    if path.is_dir():
        _check_plain(path)
    return "folder"


def _named(path: Path) -> str | None:
    """Returns the layout that fits the names in a folder; `None` if none does."""
    if (path / "test_public").is_dir() and (path / "train").is_dir():
        return "mvtec_ad2"
    if any((path / "test" / f"{kind}_anomalies").is_dir() for kind in ("logical", "structural")):
        return "mvtec_loco"
    if os.path.lexists(path / "train" / GOOD) or (path / "test" / GOOD).is_dir():
        return "tree"
    if (path / "train" / "ok").is_dir() and (path / "test" / "ko").is_dir():
        return "btad"
    if (path / "Train" / "Label").is_dir():
        return "dagm"
    if (path / "train").is_dir() and (path / "test").is_dir() and matching(path / "train", "*_gt.png"):
        return "ksdd2"
    if (path / "test").is_dir() and ((path / "ground_truth").is_dir() or (path / "train").is_dir()):
        return "tree"  # without good images, which must not be taken for a folder of good images
    if (path / "MT_Free" / "Imgs").is_dir():
        return "mtd"
    if (path / "Train").is_dir() and (path / "Test").is_dir() and matching(path / "Test", "*_gt.png"):
        return "livestock"
    if (path / "Data" / "Images" / "Anomaly").is_dir():
        return "visa"
    if (path / "testing" / "test_frame_mask").is_dir():
        return "stc"
    if (path / "images").is_dir() and (path / "labels").is_dir() and any((path / "labels").rglob("*.txt")):
        return "yolo"
    if path.is_dir() and any(
        folder.name.startswith("kos") and matching(folder, "part*_label.bmp") for folder in folders_in(path)
    ):
        return "ksdd"
    return None


def _check_plain(path: Path) -> None:
    """Raises `SourceError` if the names below a folder show that it holds defects."""
    trees = [folder.name for folder in folders_in(path) if _has_defects(folder)]
    if trees:
        raise SourceError(
            f"{path}: holds the trees {', '.join(trees)}, with defects among them; give one, {path / trees[0]}, or "
            f"folder:{path} to take all images below it for good ones"
        )
    boxes = [file for folder in (path, path / "annotations") for file in _with_boxes(folder)]
    if boxes:
        raise SourceError(
            f"{path}: has boxes in {boxes[0].relative_to(path)}; give coco:{path}, or folder:{path} to take all images "
            "below it for good ones"
        )


def _with_boxes(folder: Path) -> Iterator[Path]:
    """Yields files in a folder that begin as COCO's do; files that may not be read are left out."""
    for file in matching(folder, "*.json") if folder.is_dir() else []:
        with suppress(OSError), open(os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as content:
            if file.is_file() and b'"images"' in content.read(BEGINNING):
                yield file


def _has_defects(folder: Path) -> bool:
    """Whether a folder is a data set with defects; false for one that may not be read."""
    try:
        named = _named(folder)
    except (SourceError, OSError):
        return False
    return named is not None and (named != "tree" or os.path.isdir(folder / "test"))
