"""How many shifted copies of each image a detector learns from, in addition to the image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blemish.errors import SettingError, as_count
from blemish.images import Copies

if TYPE_CHECKING:
    from blemish.detectors import Detector

ENOUGH = 1000
"""Images and copies together, up to which copies are added by default; more brought no gain where it was measured."""


def copies_of_each(asked: int | None, most: int, detector: Detector, rows: int) -> int:
    """Returns how many copies are made of each of `rows` images or tiles.

    It is the number asked for. By default it is what makes `ENOUGH` images and copies, at most `most`, if the detector
    gains from copies, or else 0.

    Raises:
        SettingError: copies were asked for and the detector is a trained one, or the number is out of range.
    """
    from blemish.detectors import Trained

    if isinstance(detector, Trained):
        if asked:
            raise SettingError(
                f"{detector.name} is trained, and copies are for detectors that learn in one pass; leave out --copies"
            )
        return 0
    if asked is not None:
        return Copies(as_count("copies", asked), seed=0).count
    return min(most, max(0, ENOUGH // max(rows, 1) - 1)) if detector.gains_by_copies else 0
