"""Estimates how long a fit takes, apart from its pass over the images: to learn, to calibrate, to write the model.

The estimate follows from sizes that are known before the start, and from the speed of this machine, which is measured.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from blemish.calibration.cross_fit import fold_count

if TYPE_CHECKING:
    from blemish.detectors import Detector
    from blemish.detectors.detector import Grid
    from blemish.fitting.split import Division

SHAPE = (32, 1 << 15, 512)
"""Sizes of the matrix product that is timed: a batch of long vectors with many others, as scoring computes it."""

BLOCK = 8 << 20
"""Bytes whose digest is timed."""

WRITES = 5.0
"""Converting, writing, checking and flushing a model takes this many times as long as computing the digest of its bytes
(measured with models of 15 to 460 MB)."""

SETTLING = 0.8
"""Seconds to trace the scoring graph and to make the files, whatever their size."""


def seconds_beside(detector: Detector, grids: list[Grid], images: Division, rows: int, each: int) -> float:
    """Returns about how many seconds learning, calibrating and writing take on this machine.

    Args:
        detector: empty; its training, if it is trained, is not counted.
        grids: of the layers.
        images: to learn from and to calibrate on.
        rows: how many images, or tiles, there are.
        each: rows that an image is learned as: itself and its shifted copies.
    """
    count = len(images.all)
    if images.crosses:
        scored, models = rows, fold_count(count, images.folds) + 1
    else:
        scored, models = math.ceil(rows * len(images.to_calibrate) / count), 2
    operations = detector.operations(grids, rows * each, scored, models)
    return (
        SETTLING + operations / _operations_a_second() + WRITES * detector.size(grids, rows * each) / _bytes_a_second()
    )


def _operations_a_second() -> float:
    """Returns how many operations (multiplications and additions) of a matrix product this machine does in a second."""
    import torch

    count, length, others = SHAPE
    batch, gallery = torch.ones(count, length), torch.ones(others, length)
    seconds = _quicker(lambda: batch @ gallery.T)
    return 2 * count * length * others / seconds


def _bytes_a_second() -> float:
    block = bytes(BLOCK)
    return BLOCK / _quicker(lambda: hashlib.sha256(block).digest())


def _quicker(run: Callable[[], object]) -> float:
    """Returns the seconds of a second run; the first one wakes threads and takes memory."""
    run()
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
