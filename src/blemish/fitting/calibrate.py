"""The pass over the held-out images: their scores calibrate; then a detector that learns in one pass takes them in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from blemish.calibration import Calibration, Gathered, promised_rate
from blemish.engines.stream import Chunk, NotFiniteError, whole
from blemish.errors import DegenerateError
from blemish.fitting.passes import Passes, tensors
from blemish.fitting.split import Division

if TYPE_CHECKING:
    from blemish.detectors import Detector


def calibrate(detector: Detector, passes: Passes, images: Division) -> Calibration:
    """Returns the calibration by the held-out images, as the detector scores them before it takes them in.

    Args:
        detector: that has learned from the images to fit.
        passes: of this fit.
        images: of which those to calibrate are meant.

    Raises:
        BlemishError: of the kind that fits.
    """
    from blemish.detectors import Trained
    from blemish.detectors.scoring import Scoring

    scoring = Scoring(detector, passes.geometry.shape)

    def scored() -> Iterator[Chunk]:
        for chunk in passes.over("calibrate", images.to_calibrate):
            features = tensors(chunk.arrays)
            yield replace(chunk, arrays=scoring.arrays(features))
            if not isinstance(detector, Trained):
                detector.update(features)

    gathered = Gathered()
    for image in whole(scored(), passes.geometry):
        if isinstance(image.error, NotFiniteError):
            raise DegenerateError(
                f"{images.to_calibrate[image.index].path}: its score is not finite, so {detector.name} cannot tell "
                "good images from others here; give images that differ more, or other settings"
            )
        if image.map is not None:
            gathered.update(image.score, image.map)
    passes.check_enough(len(gathered))
    passes.variety.check(images.dataset.root)
    return gathered.finish(promised_rate(len(gathered), images.rate))
