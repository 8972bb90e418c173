"""Checks the graph of a user's own detector: it is traced, so of a branch only one way is in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from blemish.engines import Engine
from blemish.engines.stream import tensors
from blemish.errors import BlemishError, SettingError, is_out_of_memory

if TYPE_CHECKING:
    from blemish.detectors.scoring import Scoring

TOLERANCE = 1e-2
"""The largest difference allowed, as a share of the largest value; rounding stays far below."""

ADVICE = "keep to torch's tensor operations, without numpy, branches on values, and random numbers"


def after(name: str, scoring: Scoring, extractor: Engine, shape: tuple[int, int]) -> Engine:
    """Returns the engine of the whole model, once its graph gave the same results as the module on three images.

    Args:
        name: of the detector.
        scoring: its module.
        extractor: what the module comes after.
        shape: height and width of the input.

    Raises:
        SettingError: the module cannot become a graph, or the graph gives other results.
    """
    images = np.random.default_rng(0).integers(0, 256, (3, *shape, 3), np.uint8)
    images[0] = 0
    try:
        engine = scoring.after(extractor)
        (features,), (found,) = extractor.run([images]), engine.run([images])
    except Exception as error:
        if is_out_of_memory(error):
            raise
        reason = str(error).strip().partition("\n")[0] if not isinstance(error, BlemishError) else "it does not run"
        raise SettingError(f"{name}: its head cannot become a graph ({reason}); {ADVICE}") from error
    for wanted, given in zip(scoring.arrays(tensors(features)), found, strict=False):
        scale = float(np.abs(wanted).max())
        if wanted.shape != given.shape or not np.allclose(wanted, given, 0, TOLERANCE * scale, equal_nan=True):
            raise SettingError(f"{name}: the graph that is traced from its head gives other results; {ADVICE}")
    return engine
