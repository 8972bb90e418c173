"""Leaves out training images that look anomalous themselves, and learns and calibrates again without them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blemish.calibration import Gathered
from blemish.engines.stream import tensors
from blemish.errors import SettingError
from blemish.fitting.calibrate import cross_fit
from blemish.fitting.kept import Kept
from blemish.fitting.passes import Passes
from blemish.fitting.split import Division

if TYPE_CHECKING:
    from blemish.detectors import Detector

ROUNDS = 5
"""The largest number of rounds in which suspicious images are looked for; some hide others that look like them."""


def trim(
    detector: Detector, passes: Passes, images: Division, kept: Kept, seed: int, gathered: Gathered
) -> tuple[Gathered, Kept, tuple[str, ...]]:
    """Learns again without suspicious images, in place, until there are none.

    Args:
        detector: one that has learned from all images.
        passes: of this fit.
        images: all are to fit.
        kept: the features of all images.
        seed: of the division into folds.
        gathered: the cross-fitted scores of all images.

    Returns:
        The scores and the features of the images that are left, and the names of the others, the worst first.

    Raises:
        SettingError: fewer than half of the images would be left, or too few for the rates.
    """
    total = len(gathered)
    left_out: list[str] = []
    for _ in range(ROUNDS):
        found = gathered.suspicious()
        if not found:
            break
        left_out += found
        if 2 * (total - len(left_out)) < total:
            raise SettingError(
                f"{images.dataset.root}: {len(left_out)} of {total} images look anomalous, so fewer than half would be "
                "left; look at them with `blemish check --deep`, or leave --trim out"
            )
        names = set(left_out)
        kept = kept.part(index for index in kept.digests if images.name_of(images.to_fit[index].path) not in names)
        images.check_rates(len(kept.digests))
        detector.start(detector.grids_)
        for chunk in kept.chunks():
            detector.update(tensors(chunk.arrays))
        gathered = cross_fit(detector, passes, images, kept, seed)
    return gathered, kept, tuple(left_out)
