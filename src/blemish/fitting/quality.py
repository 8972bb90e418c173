"""The ladder of quality: a rung gives the backbone, the size and the copies that the arguments of `fit` do not.

A rung trades time for detection. `benchmarks/quality.py` measures all of them on all sets at once.
"""

from __future__ import annotations

from dataclasses import dataclass

from blemish.backbones import DEFAULT
from blemish.errors import SettingError


@dataclass(frozen=True)
class Quality:
    """One rung.

    Attributes:
        backbone: a network whose weights come as a package.
        size: side of a square with as many pixels as the model's input.
        copies: of each image, at most, where images are few; see `virtual.copies_of_each`.
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
    """Returns the rung of that name. Raises `SettingError` if there is none."""
    if name not in QUALITIES:
        raise SettingError(f"no quality is called {name!r}; give one of {', '.join(QUALITIES)}")
    return QUALITIES[name]
