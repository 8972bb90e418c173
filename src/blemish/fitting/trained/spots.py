"""Measures how well a map finds spots of random colour that are drawn on good images, to judge training by.

Nothing is known of real anomalies while a detector is trained, and spots are not real ones. But both are unknown to the
code, and both are lost at about the same time, when the code learns to draw any image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blemish.images import Pixels
from blemish.metrics import auroc, tally

SPOTS = 3
"""Spots on an image."""

AXES = (0.015, 0.065)
"""The range of a spot's half axes, as shares of the image's shorter side."""

GRAIN = 8.0
"""Standard deviation of the noise in a spot, in grey levels."""


@dataclass(frozen=True)
class Spotted:
    """Images with spots, uint8 (B, H, W, 3), and where these are, (B, H, W)."""

    images: NDArray[np.uint8]
    masks: NDArray[np.bool_]

    @classmethod
    def over(cls, images: Sequence[Pixels], seed: int) -> Spotted:
        """Returns the images with three ellipses drawn on each, of random place, direction and colour."""
        rng = np.random.default_rng([seed, len(images)])
        spotted = np.stack(images)
        count, height, width, _ = spotted.shape
        masks = np.zeros((count, height, width), bool)
        down, across = np.mgrid[:height, :width]
        for image, mask in zip(spotted, masks, strict=True):
            for _ in range(SPOTS):
                angle, row, column = (rng.uniform(0, most) for most in (np.pi, height, width))
                first, second = (min(height, width) * rng.uniform(*AXES) for _ in range(2))
                along = (down - row) * np.cos(angle) + (across - column) * np.sin(angle)
                aside = (across - column) * np.cos(angle) - (down - row) * np.sin(angle)
                spot = (along / first) ** 2 + (aside / second) ** 2 < 1
                grains = rng.uniform(0, 255, 3) + rng.normal(0, GRAIN, (int(spot.sum()), 3))
                image[spot] = np.clip(grains, 0, 255).astype(np.uint8)
                mask |= spot
        return cls(spotted, masks)

    def found(self, maps: NDArray[np.float32]) -> float:
        """Returns the mean over images of their pixel AUROC: how often a spot is above the rest of its image.

        Args:
            maps: (B, h, w); each value stands for a block of pixels.
        """
        if not np.isfinite(maps).all():
            return 0.0  # nothing is found by such a map; what was learned is checked at the end
        areas = []
        for values, mask in zip(maps, self.masks, strict=True):
            rows, columns = (
                np.arange(full) * side // full for side, full in zip(values.shape, mask.shape, strict=True)
            )
            area = auroc(tally(values[rows[:, None], columns], mask))
            if area is not None:  # `None` if no pixel or every pixel is in a spot
                areas.append(area)
        return float(np.mean(areas)) if areas else 0.5
