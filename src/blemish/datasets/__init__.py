"""Reads a SOURCE, which is a path or `layout:PATH`, as lists of samples for training and for testing.

A layout is a function from a folder to a `Dataset`. Layouts with a split of their own keep it; the others split the
good images by seed, so that `fit` and `evaluate` with the same seed never share an image.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from blemish.datasets.classes import classes, read_one_class
from blemish.datasets.coco import read_coco
from blemish.datasets.dagm import read_dagm
from blemish.datasets.elpv import read_elpv
from blemish.datasets.folder import read_folder
from blemish.datasets.groups import OBJECTS, TEXTURES, find_categories
from blemish.datasets.kolektor import read_ksdd, read_ksdd2
from blemish.datasets.livestock import read_livestock
from blemish.datasets.mtd import read_mtd
from blemish.datasets.recognised import recognise
from blemish.datasets.remote import read_remote
from blemish.datasets.sample import GOOD, Dataset, Sample, evenly_spaced, picked
from blemish.datasets.stc import read_stc
from blemish.datasets.tree import read_btad, read_mpdd, read_mvtec, read_mvtec_ad2, read_mvtec_loco, read_tree
from blemish.datasets.truth import read_truth, true_boxes
from blemish.datasets.visa import read_visa
from blemish.datasets.yolo import read_yolo
from blemish.errors import SourceError
from blemish.images.array_files import read_member
from blemish.storage.remote import is_remote

__all__ = [
    "GOOD",
    "LAYOUTS",
    "OBJECTS",
    "TEXTURES",
    "Dataset",
    "Sample",
    "classes",
    "evenly_spaced",
    "find_categories",
    "picked",
    "read_source",
    "read_truth",
    "true_boxes",
]

LAYOUTS: dict[str, Callable[[str, int], Dataset]] = {
    "tree": read_tree,
    "folder": read_folder,
    "mtd": read_mtd,
    "livestock": read_livestock,
    "elpv": read_elpv,
    "one_class": read_one_class,
    "mvtec": read_mvtec,
    "mvtec_loco": read_mvtec_loco,
    "mvtec_ad2": read_mvtec_ad2,
    "mpdd": read_mpdd,
    "btad": read_btad,
    "visa": read_visa,
    "ksdd": read_ksdd,
    "ksdd2": read_ksdd2,
    "dagm": read_dagm,
    "stc": read_stc,
    "coco": read_coco,
    "yolo": read_yolo,
}


def read_source(source: str | Path, seed: int = 0) -> Dataset:
    """Returns the data set behind a SOURCE.

    Args:
        source: an image, a folder, whose layout is recognised, `layout:PATH`, `elpv`, `elpv:mono` or `elpv:poly`; or
            the address of an image, a folder or a tree elsewhere, such as `s3://bucket/folder`.
        seed: decides the split of layouts that have none of their own.

    Raises:
        SourceError: nothing is there, it may not be read, it holds no images, or it is not laid out as its layout says.
    """
    if not isinstance(source, (str, os.PathLike)):
        raise SourceError(
            f"{type(source).__name__} is no source; give a path, layout:PATH, or a data set that was read"
        )
    text = str(source)
    if not text.strip():
        raise SourceError("the source is empty text; give an image, a folder, layout:PATH or elpv")
    try:
        return _read(text, seed)
    except PermissionError as error:
        named = error.filename if error.filename and os.path.lexists(error.filename) else text
        raise SourceError(f"{named}: may not be read; check its permissions") from None
    except OSError as error:
        raise SourceError(f"{error.filename or text}: cannot be read ({error.strerror}); check the path") from None


def _read(text: str, seed: int) -> Dataset:
    layout, colon, rest = text.partition(":")
    if is_remote(text):
        return read_remote(text)
    if layout in LAYOUTS and is_remote(rest):
        return replace(read_remote(rest, layout), root=text)
    if layout in LAYOUTS and (colon or layout == "elpv") and not Path(text).exists():
        if not rest and layout != "elpv":
            raise SourceError(f"{text!r} names no folder; give {layout}:PATH")
        # The whole text, so that the source that a model keeps gives the same images again.
        return replace(LAYOUTS[layout](rest, seed), root=text)
    path = Path(text)
    if read_member(path) is not None:
        return Dataset("one image of a file with many", text, [Sample(path)])
    if not path.exists():
        known = ", ".join(sorted(LAYOUTS))
        raise SourceError(f"{text}: no such file or folder; give a path, or LAYOUT:PATH with one of {known}")
    return LAYOUTS[recognise(path)](text, seed)
