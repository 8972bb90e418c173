"""The categories of data sets that have several, by name, and the groups of them that papers average over."""

from __future__ import annotations

from pathlib import Path

from blemish.datasets.listing import by_number, folders_in
from blemish.datasets.sample import existing_folder
from blemish.datasets.stc import scenes
from blemish.errors import SettingError, SourceError

TEXTURES = ("carpet", "grid", "leather", "tile", "wood")
"""Categories of MVTec AD that are textures."""

OBJECTS = (
    "bottle",
    "cable",
    "capsule",
    "hazelnut",
    "metal_nut",
    "pill",
    "screw",
    "toothbrush",
    "transistor",
    "zipper",
)
"""Categories of MVTec AD that are objects."""

SIGNS = {
    "mvtec": "train/good",
    "mvtec_loco": "train/good",
    "mvtec_ad2": "train/good",
    "mpdd": "train/good",
    "btad": "train/ok",
    "visa": "Data/Images",
    "dagm": "Train",
}
"""For each layout with categories the folder by which one is known."""


def find_categories(layout: str, root: str | Path) -> dict[str, str]:
    """Returns the categories below the root of a data set as sources, `{"bottle": "mvtec:ROOT/bottle", …}`, in order.

    Numbers in names count as numbers: `Class2` stands before `Class10`.

    Args:
        layout: one of `SIGNS`, or `stc`, whose scenes are the categories.
        root: the folder that holds the categories.

    Raises:
        SettingError: the layout has no categories.
        SourceError: the folder is absent, may not be read, or holds none.
    """
    if layout == "stc":
        return {scene: f"stc:{root}:{scene}" for scene in scenes(str(root))}
    if layout not in SIGNS:
        known = ", ".join([*SIGNS, "stc"])
        raise SettingError(f"the layout {layout!r} has no categories; give one of {known}")
    names = _categories(layout, existing_folder(str(root)))
    if not names:
        raise SourceError(f"{root}: no category of {layout}: in this folder; expected <category>/{SIGNS[layout]}")
    return {name: f"{layout}:{Path(root) / name}" for name in names}


def category_folder(layout: str, path: str) -> Path:
    """Returns the folder of one category.

    Raises:
        SourceError: it is absent; its parent has other categories, or it holds the categories itself: they are named.
    """
    folder = Path(path)
    if not folder.is_dir() and folder.parent.is_dir():
        names = _categories(layout, folder.parent)
        if names:
            raise SourceError(f"{path}: no such folder; {folder.parent} has {', '.join(names)}")
    if not (existing_folder(path) / SIGNS[layout]).is_dir():
        names = _categories(layout, folder)
        if names:
            raise SourceError(
                f"{path}: holds the categories {', '.join(names)}; give one, {layout}:{Path(path) / names[0]}"
            )
    return folder


def _categories(layout: str, root: Path) -> list[str]:
    names = [folder.name for folder in folders_in(root) if (folder / SIGNS[layout]).is_dir()]
    return sorted(names, key=by_number)
