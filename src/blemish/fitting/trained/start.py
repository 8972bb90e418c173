"""What a training starts from: random weights, its own checkpoint, or the weights of a checkpoint of other images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blemish.errors import ImageError, SettingError, StorageError
from blemish.fitting.split import images_digest
from blemish.images import Geometry, Location, decode_ahead, open_photograph, read_image
from blemish.images.copies import digest_of


@dataclass(frozen=True)
class Start:
    """What a training starts from.

    An image that the weights have learned from has a lower score than a new one, so none of these may calibrate.

    Attributes:
        warm: from the weights of a checkpoint of other images.
        before: digests of the images that the weights have learned from before this training.
        images: a digest of the names of all images of the fit.
    """

    warm: bool = False
    before: frozenset[str] = frozenset()
    images: str = ""

    def note(self, learned: Iterable[str]) -> dict[str, Any]:
        """Returns what a later fit has to know of this training, which learned from images with these digests."""
        return {"all": self.images, "before": sorted(self.before), "learned": sorted(learned)}

    def learned_from(self, paths: Sequence[Location], geometry: Geometry) -> frozenset[Location]:
        """Returns those of the images that the weights have learned from before; unreadable ones are not among them."""
        if not self.before:
            return frozenset()

        def digest(path: Location) -> str:
            if geometry.tile is None:
                return digest_of(read_image(path, geometry)).hex()
            with open_photograph(path, geometry) as photograph:
                return photograph.digest

        found = decode_ahead(digest, paths)
        pairs = zip(paths, found, strict=True)
        return frozenset(path for path, own in pairs if not isinstance(own, ImageError) and own in self.before)


def find_start(folder: Path | None, resume: bool, paths: Sequence[Location], *, crosses: bool) -> Start:
    """Returns what a training starts from.

    Args:
        folder: of its checkpoint, if it has one.
        resume: go on from the checkpoint there.
        paths: of all images of the fit.
        crosses: whether it is cross-fitted.

    Raises:
        StorageError: the checkpoint was altered.
        SettingError: its images are others, and these are to be cross-fitted.
    """
    from blemish.training.checkpoint import read_note
    from blemish.training.loop import CHECKPOINT

    if folder is None:
        return Start()
    images, checkpoint = images_digest(paths), folder / CHECKPOINT
    if not resume or not checkpoint.exists():
        return Start(images=images)
    note = read_note(checkpoint)
    try:
        same, before, learned = note["all"] == images, frozenset(note["before"]), frozenset(note["learned"])
    except (KeyError, TypeError):
        raise StorageError(f"{checkpoint}: does not say which images it learned from; give another folder") from None
    if same:
        return Start(False, before, images)
    if crosses:
        raise SettingError(
            f"{checkpoint}: has learned from other images, so a cross-fit cannot start from it: no fold would be "
            "new to it; leave --folds out, or give another folder"
        )
    return Start(True, before | learned, images)
