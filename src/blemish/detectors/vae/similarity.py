"""Structural similarity of images at every pixel, as a module for the scoring graph."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Similarity(nn.Module):
    """SSIM at every pixel (Wang et al. 2004) with windows of equal weights, as in scikit-image for a data range of 1.

    Args:
        window: side, odd.
        shape: of the images.
    """

    columns: Tensor
    rows: Tensor

    def __init__(self, window: int, shape: tuple[int, int], first: float = 0.01, second: float = 0.03) -> None:
        super().__init__()
        self.window = window
        self.constants = first**2, second**2
        # Beyond the border the image is mirrored, its edge repeated.
        for name, side in zip(("rows", "columns"), shape, strict=True):
            places = torch.arange(-(window // 2), side + window // 2) % (2 * side)
            self.register_buffer(name, torch.minimum(places, 2 * side - 1 - places))

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        """Returns similarities (B, C, H, W) of images (B, C, H, W) between 0 and 1; 1 where they are the same."""
        mean, mean_other = self._mean(one), self._mean(other)
        unbiased = self.window**2 / (self.window**2 - 1)
        variance = unbiased * (self._mean(one.square()) - mean.square())
        variance_other = unbiased * (self._mean(other.square()) - mean_other.square())
        covariance = unbiased * (self._mean(one * other) - mean * mean_other)
        c1, c2 = self.constants
        above = (2 * mean * mean_other + c1) * (2 * covariance + c2)
        return above / ((mean.square() + mean_other.square() + c1) * (variance + variance_other + c2))

    def _mean(self, images: Tensor) -> Tensor:
        mirrored = images.index_select(2, self.rows).index_select(3, self.columns)
        return F.avg_pool2d(mirrored, self.window, stride=1)
