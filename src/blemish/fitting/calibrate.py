"""The pass over the held-out images: their scores calibrate. A detector that learns in one pass then takes them in."""

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
    """Returns the calibration from the scores of the held-out images.

    A batch is scored after the detector learned from the images to fit, by one scoring module for all batches. A
    detector that learns in one pass then takes in the held-out images too; a trained one does not.

    Args:
        detector: one that has learned from the images to fit.
        passes: of this fit.
        images: whose part to calibrate is used.

    Raises:
        BadImagesError: an image cannot be read, or none is left.
        DegenerateError: a score is not finite, or all images are the same.
        SettingError: there are too few images for the rate.
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
