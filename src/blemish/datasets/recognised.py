"""Which layout a folder has, by the names in it. What could be taken for two is taken for neither."""

from __future__ import annotations

import os
from pathlib import Path

from blemish.datasets.listing import folders_in, matching
from blemish.datasets.sample import GOOD
from blemish.errors import SourceError


def recognise(path: Path) -> str:
    """Returns the layout of a folder or a file, `folder` if it has the names of no other.

    Raises:
        SourceError: it holds several trees, whose defects would be taken for good images; or it may not be read.
    """
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
    return _recognise_others(path)


def _recognise_others(path: Path) -> str:
    if (path / "Data" / "Images" / "Anomaly").is_dir():
        return "visa"
    if (path / "testing" / "test_frame_mask").is_dir():
        return "stc"
    if (path / "images").is_dir() and (path / "labels").is_dir() and any((path / "labels").rglob("*.txt")):
        return "yolo"
    if path.is_dir():
        folders = folders_in(path)
        if any(folder.name.startswith("kos") and matching(folder, "part*_label.bmp") for folder in folders):
            return "ksdd"
        parts = "train/good", "test"  # by `os.path`, which does not raise where a folder may not be read
        trees = [folder.name for folder in folders if all(os.path.isdir(folder / part) for part in parts)]
        if trees:
            raise SourceError(
                f"{path}: holds the trees {', '.join(trees)}, with defects among them; give one, {path / trees[0]}, or "
                f"folder:{path} to take all images below it for good ones"
            )
    return "folder"
