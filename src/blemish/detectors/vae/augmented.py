"""Augmentation: training images are rotated a little, mirrored and shifted at random.

This happens within a training step. Its noise depends on the seed and the number of the step alone, so a training that
is resumed sees the same images as one without interruption.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blemish.training import Noise


@dataclass(frozen=True)
class Changes:
    """How far images are changed.

    Attributes:
        turn: the largest angle, in degrees, either way.
        shift: the largest shift, as a share of the shorter side, either way, down and across.
        flips: mirror half of them upside down, and half of them left to right.
    """

    turn: float = 0.0
    shift: float = 0.0
    flips: bool = False


CHANGES = {
    "flips": Changes(flips=True),
    "turns": Changes(turn=45, flips=True),
    # A random crop of 282 from 292 pixels whose centre, 256 wide, is kept: a shift by up to 5 pixels either way.
    "shifts": Changes(turn=2, shift=5 / 256),
}
"""Changes by name.

The published code of VAE-GRF has `flips` for textures, `turns` for hazelnut; the VAE of the PaDiM paper has `shifts`.
"""


class Augmented(nn.Module):
    """Changes images (B, 3, H + 2 m, W + 2 m) at random, and returns their centres (B, 3, H, W).

    Values between pixels are on straight lines. Beyond the border, images are mirrored.

    Args:
        changes: how far.
        shape: H and W.
    """

    def __init__(self, changes: Changes, shape: tuple[int, int]) -> None:
        super().__init__()
        self.changes, self.shape = changes, shape
        self.noise = Noise()

    def forward(self, images: Tensor) -> Tensor:
        """Returns the images after a change of its own for each."""
        height, width = self.shape
        shares = self._uniform(images)  # (B, 5) between 0 and 1
        angle = math.radians(self.changes.turn) * (2 * shares[:, 0] - 1)
        shift = self.changes.shift * min(height, width) * (2 * shares[:, 1:3] - 1)  # pixels down and across
        mirror = torch.where(shares[:, 3:] < 0.5, -1.0, 1.0) if self.changes.flips else torch.ones_like(shares[:, 3:])
        # Where each pixel of the result comes from, counted in pixels from the centre.
        down, across = (
            torch.arange(side, dtype=shares.dtype, device=shares.device) - (side - 1) / 2 for side in self.shape
        )
        rows = (down[:, None] * mirror[:, 0, None, None]).expand(-1, height, width)
        columns = (across[None] * mirror[:, 1, None, None]).expand(-1, height, width)
        cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
        from_rows = cos * rows - sin * columns + shift[:, 0, None, None]
        from_columns = sin * rows + cos * columns + shift[:, 1, None, None]
        sides = images.shape[-2:]
        places = torch.stack([2 * from_columns / sides[1], 2 * from_rows / sides[0]], -1)  # -1 and 1 are the edges
        found: Tensor = F.grid_sample(images, places, "bilinear", "reflection", align_corners=False)
        return found

    def _uniform(self, images: Tensor) -> Tensor:
        """Returns numbers (B, 5) between 0 and 1, from noise that several processes share."""
        drawn = self.noise(images.new_empty(len(images), 5, dtype=torch.float32))
        return (1 + torch.erf(drawn / math.sqrt(2))) / 2
