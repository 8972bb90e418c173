"""The mixin of detectors that have a prior over images."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from blemish.detectors.detector import Features


class Generative(ABC):
    """A detector that can draw images: reconstructions of given ones, and new ones."""

    @abstractmethod
    def reconstruct(self, features: Features) -> Tensor:
        """Returns reconstructed images (B, 3, H, W) between 0 and 1."""

    @abstractmethod
    def sample(self, count: int, seed: int) -> Tensor:
        """Returns images (count, 3, H, W) between 0 and 1, drawn from the prior."""
