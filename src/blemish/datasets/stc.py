"""ShanghaiTech Campus, STC (Liu et al. 2018): frames of 13 scenes, with masks of people and things that are unusual.

Videos are not decoded here: the training part is published as videos, whose frames must be in folders first.
"""

from __future__ import annotations

import os
from pathlib import Path

from blemish.datasets.arrays import count_frames, read_labels
from blemish.datasets.listing import by_number, folders_in, matching
from blemish.datasets.marks import MaskFrame
from blemish.datasets.sample import GOOD, Dataset, Sample, existing_folder
from blemish.errors import ImageError, SourceError

UNUSUAL = "unusual"


def read_stc(path: str, seed: int = 0) -> Dataset:
    """Returns all frames of `training/frames` to fit on and all of `testing/frames` to test, of all scenes or of one.

    Folders are named for scene and video, `01_0014`, and hold frames `000.jpg` in the order of their numbers. Labels
    are in `testing/test_frame_mask/01_0014.npy`, masks in `testing/test_pixel_mask/01_0014.npy`, (frames, H, W); they
    are read a frame at a time, and never unpickled. The seed changes nothing.

    Args:
        path: `PATH`, or `PATH:SCENE` such as `shanghaitech:01`.

    Raises:
        SourceError: there are no training frames, no such scene, or a video has no labels or not one for each frame.
    """
    root, scene = _scene(path)
    training = root / "training" / "frames"
    folders = _videos(training, scene) if os.path.lexists(training) else []
    train = [Sample(frame) for folder in folders for frame in _frames(folder)]
    if not train:
        raise SourceError(
            f"{path}: no training frames in {training}; videos are not decoded here: extract their frames to "
            f"{training / '01_001' / '000.jpg'} and so on"
        )
    testing = root / "testing"
    has_masks = os.path.lexists(testing / "test_pixel_mask")
    test: list[Sample] = []
    for folder in _videos(testing / "frames", scene) if os.path.lexists(testing / "frames") else []:
        try:
            test += _tested(folder, testing, has_masks=has_masks)
        except ImageError as error:
            raise SourceError(str(error)) from None
    return Dataset("ShanghaiTech Campus", path, train, test, has_masks)


def scenes(path: str) -> list[str]:
    """Returns the scenes of which there are frames, in order. Raises `SourceError` if there are none."""
    root = existing_folder(path)
    parts = [part for part in (root / "training" / "frames", root / "testing" / "frames") if os.path.lexists(part)]
    found = {folder.name.partition("_")[0] for part in parts for folder in folders_in(part)}
    if not found:
        raise SourceError(f"{path}: no scenes in this folder; expected {root / 'testing' / 'frames' / '01_0014'}")
    return sorted(found, key=by_number)


def _scene(path: str) -> tuple[Path, str]:
    """Returns the root and the scene, which is empty for all."""
    where, colon, scene = path.rpartition(":")
    if not colon or os.path.isdir(path):
        return existing_folder(path), ""
    known = scenes(where)
    if scene not in known:
        raise SourceError(f"{where}: has no scene {scene!r}; it has {', '.join(known)}")
    return Path(where), scene


def _videos(part: Path, scene: str) -> list[Path]:
    return [folder for folder in folders_in(part) if not scene or folder.name.partition("_")[0] == scene]


def _frames(folder: Path) -> list[Path]:
    """Returns the frames of a video in the order of their numbers, which may have three digits or more."""
    return sorted(matching(folder, "*.jpg"), key=lambda frame: by_number(frame.name))


def _tested(folder: Path, testing: Path, *, has_masks: bool) -> list[Sample]:
    """Returns the frames of a test video with their labels and masks."""
    frames = _frames(folder)
    labels = read_labels(testing / "test_frame_mask" / f"{folder.name}.npy")
    masks = testing / "test_pixel_mask" / f"{folder.name}.npy"
    counts = {"labels": len(labels)} | ({"masks": count_frames(masks)} if has_masks else {})
    for what, count in counts.items():
        if count != len(frames):
            raise SourceError(f"{folder}: has {len(frames)} frames and {count} {what}; extract the frames again")
    return [
        Sample(frame, UNUSUAL if label else GOOD, MaskFrame(masks, index) if label and has_masks else None)
        for index, (frame, label) in enumerate(zip(frames, labels.tolist(), strict=True))
    ]
