"""Plain folders of good images, and single images."""

from __future__ import annotations

from pathlib import Path

from blemish.datasets.listing import images_in
from blemish.datasets.sample import Dataset, Sample, existing_folder
from blemish.errors import SourceError
from blemish.images.files import SUFFIXES


def read_folder(path: str, seed: int = 0) -> Dataset:
    """Returns every image below a folder, or one image file, as good training images. The seed changes nothing."""
    single = Path(path)
    if single.is_file():
        if single.suffix.lower() not in SUFFIXES:
            raise SourceError(f"{path}: not an image; its name should end in one of {', '.join(sorted(SUFFIXES))}")
        return Dataset("one image", path, [Sample(single)])
    folder = existing_folder(path)
    images = images_in(folder, recursive=True)
    if not images:
        raise SourceError(f"{path}: no images in this folder; expected {', '.join(sorted(SUFFIXES))} files")
    return Dataset("plain folder", path, [Sample(image) for image in images])
