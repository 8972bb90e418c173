"""The pass over the images to learn from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blemish.engines.stream import tensors
from blemish.fitting.kept import Kept
from blemish.fitting.passes import Passes
from blemish.fitting.split import Division

if TYPE_CHECKING:
    from blemish.detectors import Detector
    from blemish.fitting.trained.learn import Training


def learn(
    detector: Detector, passes: Passes, images: Division, training: Training | None = None, kept: Kept | None = None
) -> None:
    """Lets the detector take in the images, once; then trains it, if it is a trained one.

    Args:
        detector: empty.
        passes: of this fit.
        images: whose part to fit is used.
        training: of the detector; `None` if it learns in one pass.
        kept: takes the features in too, if they are needed again.

    Raises:
        BadImagesError: an image cannot be read, or too few are left.
        DegenerateError: a detector would be trained, and all images to calibrate on are among those it learned from.
        SettingError: the images are cross-fitted, and those that could be read are too few for the rates.
        DegenerateError: features are not finite, or all images are the same.
        BlemishError: as `train_detector` does.
    """
    for chunk in passes.over("fit", images.to_fit, images.to_calibrate):
        detector.update(tensors(chunk.arrays))
        if training:
            training.keep(chunk)
        if kept is not None:
            kept.keep(chunk)
    passes.variety.check(images.dataset.root)
    if kept is None:
        passes.check_enough(detector.count)
    else:
        passes.check_enough(len(kept.digests), fewest=2)
        images.check_rates(len(kept.digests))  # before a training: bad images may have left too few
    if training and kept is None:
        passes.check_new([sample.path for sample in images.to_calibrate])
    if training:
        training.run(passes.progress)
