"""Predictions as YOLO's text files, one for each image; each box is a line `class x y width height confidence`."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from blemish.results.found import Found

LABELS = "labels"


class Yolo:
    """Writes `labels/…/NAME.txt` for each image that could be read; without boxes, the file is empty.

    Centre and sides are shares of the image's width and height. The confidence is 1 minus the box's p-value.

    Args:
        folder: in which `labels` is made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / LABELS
        self._folder.mkdir()
        (self._folder / "classes.txt").write_text("anomaly\n")

    def add(self, found: Found) -> None:
        """Writes the text of an image."""
        if found.size is None:
            return
        height, width = found.size
        file = self._folder / PurePosixPath(found.own).with_suffix(".txt")
        file.parent.mkdir(parents=True, exist_ok=True)
        lines = [
            f"0 {(box.left + box.right) / 2 / width:.6f} {(box.top + box.bottom) / 2 / height:.6f} "
            f"{(box.right - box.left) / width:.6f} {(box.bottom - box.top) / height:.6f} {1 - p_value:.6f}\n"
            for box, p_value in zip(found.boxes, found.box_p_values, strict=True)
        ]
        file.write_text("".join(lines))

    def close(self) -> None:
        """Does nothing: all files are written."""
