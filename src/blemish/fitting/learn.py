"""The pass over the images to learn from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blemish.fitting.passes import Passes, tensors
from blemish.fitting.split import Division

if TYPE_CHECKING:
    from blemish.detectors import Detector
    from blemish.fitting.trained.learn import Training


def learn(detector: Detector, passes: Passes, images: Division, training: Training | None) -> None:
    """Shows the images to the detector, once; then trains it, if it is one to be trained.

    Args:
        detector: empty.
        passes: of this fit.
        images: of which those to fit are meant.
        training: of the detector; `None` if it learns in one pass.

    Raises:
        BlemishError: of the kind that fits.
    """
    for chunk in passes.over("fit", images.to_fit, images.to_calibrate):
        detector.update(tensors(chunk.arrays))
        if training:
            training.keep(chunk)
    passes.check_enough(detector.count)
    passes.variety.check(images.dataset.root)
    if training:
        training.run(passes.progress)
