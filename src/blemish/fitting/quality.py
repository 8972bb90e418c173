"""Levels of quality: each names a backbone, a size and a number of copies, for arguments that `fit` was not given.

A higher level detects more and takes more time. `benchmarks/quality.py` measures all levels on all data sets at once.
"""

from __future__ import annotations

from dataclasses import dataclass

from blemish.backbones import DEFAULT
from blemish.errors import SettingError


@dataclass(frozen=True)
class Quality:
    """One level of quality.

    Attributes:
        backbone: a network whose weights come as a package.
        size: side of a square with as many pixels as the model's input.
        copies: the largest number of shifted copies of each image, where images are few; see `virtual.copies_of_each`.
    """

    backbone: str
    size: int
    copies: int


BALANCED = "balanced"

QUALITIES = {
    "fast": Quality(DEFAULT, 192, 0),
    BALANCED: Quality(DEFAULT, 256, 4),
    "best": Quality("efficientnet_lite2", 320, 4),
}


def find_quality(name: str) -> Quality:
    """Returns the level of quality of that name. Raises `SettingError` if there is none."""
    if name not in QUALITIES:
        raise SettingError(f"no quality is called {name!r}; give one of {', '.join(QUALITIES)}")
    return QUALITIES[name]
