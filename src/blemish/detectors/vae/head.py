"""The maps of a VAE, by its code, its reconstruction, or the gradient of its loss.

All use the mean of the code, without noise.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from blemish.detectors.head import Head, Part
from blemish.detectors.vae.network import FixedField, Network, continuous_bernoulli_mean, elbo, log_likelihood
from blemish.detectors.vae.similarity import Similarity

GRADIENTS = ("gradient", "gradient-sm", "projection")
"""Maps that need gradients with respect to the image."""

MAPS = ("mad", "sm", "mad-sm", "l2", *GRADIENTS)

STEPS, RATE, NEARNESS = 15, 0.5, 0.05
"""Steps of the projection, their rate, and the weight of the distance from the image (Dehaene et al. 2020)."""


def grid_of(map: str, shape: tuple[int, int], stride: int) -> tuple[int, int]:
    """Returns height and width of a map for images of this shape and a code of this stride."""
    return (shape[0] // stride, shape[1] // stride) if map == "mad" else shape


class VAEHead(Head):
    """Computes one of `MAPS` of images (B, 3, H, W) between 0 and 1, standardised by position after `standardise`.

    Args:
        network: trained.
        map: one of `MAPS`.
        window: side of the window of SSIM.
        shape: H and W.
        stride: pixels per site of the code.
        field: prior of the codes, for the gradient of the loss.
        beta: weight of the divergence in the loss.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        network: Network,
        map: str,
        window: int,
        shape: tuple[int, int],
        stride: int,
        field: FixedField | None = None,
        beta: float = 1.0,
    ) -> None:
        super().__init__()
        self.map, self.stride, self.beta = map, stride, beta
        self.parts = [Part((0,))]
        self.grid = grid_of(map, shape, stride)
        self.register_buffer("mean", torch.zeros(self.grid))
        self.register_buffer("deviation", torch.ones(self.grid))
        self.network = network
        self.field = field
        self.similarity = Similarity(window, shape)

    def standardise(self, mean: Tensor, deviation: Tensor) -> None:
        """Sets mean and standard deviation (h, w) of the maps of good images."""
        self.mean, self.deviation = mean.float(), deviation.float()

    def forward(self, features: tuple[Tensor, ...]) -> Tensor:
        (images,) = features
        return (self._map(images) - self.mean) / self.deviation

    def layers(self, features: tuple[Tensor, ...]) -> list[Tensor]:
        return [self(features)]

    def _map(self, images: Tensor) -> Tensor:
        if self.map == "gradient":
            return self._steepness(images)
        if self.map == "gradient-sm":
            return _to_unit(self._steepness(images)) * _to_unit(self._dissimilarity(images, self._shown(images)))
        if self.map == "projection":
            return self._dissimilarity(images, self._shown(self._projected(images)))
        code, _ = self.network.encode(images)
        if self.map == "mad":
            return spread(code)
        shown = continuous_bernoulli_mean(self.network.decode(code))
        if self.map == "l2":
            return (images - shown).square().sum(1)
        dissimilar = self._dissimilarity(images, shown)
        if self.map == "sm":
            return dissimilar
        repeated = F.interpolate(spread(code)[:, None], scale_factor=self.stride, mode="nearest")[:, 0]
        return _to_unit(repeated) * _to_unit(dissimilar)

    def _shown(self, images: Tensor) -> Tensor:
        return continuous_bernoulli_mean(self.network.decode(self.network.encode(images)[0]))

    def _dissimilarity(self, images: Tensor, others: Tensor) -> Tensor:
        """Returns the product over colours of 1 - SSIM."""
        dissimilar: Tensor = (1 - self.similarity(images, others)).prod(1)
        return dissimilar

    def _steepness(self, images: Tensor) -> Tensor:
        """Returns |dL/dx| of the loss (paper, eq. 9), summed over colours (Zimmerer et al. 2019)."""

        def loss(x: Tensor) -> Tensor:
            assert self.field is not None  # noqa: S101  # given for the maps that come here
            reconstruction, divergence = elbo(self.network, self.field(), x)
            return reconstruction + self.beta * divergence

        return _gradient(loss, images).abs().sum(1)

    def _projected(self, images: Tensor) -> Tensor:
        """Returns images moved down the energy -log p(x'|z) + 0.05 |x' - x|, more where they are reconstructed worse.

        x' - 0.5 dE/dx' (x' - shown)², 15 times over (Dehaene et al. 2020, eqs. 6 and 7).
        """

        def energy(x: Tensor) -> Tensor:
            likelihood = log_likelihood(self.network.decode(self.network.encode(x)[0]), x)
            return (NEARNESS * (x - images).abs() - likelihood).sum((1, 2, 3))

        projected = images
        for _ in range(STEPS):
            missed = (projected - self._shown(projected)).square()
            projected = (projected - RATE * _gradient(energy, projected) * missed).clamp(0, 1)
        return projected


def spread(code: Tensor) -> Tensor:
    """Returns the mean absolute deviation of the channels of a code (B, C, h, w) at each site (paper, eq. 15)."""
    return (code - code.mean(1, keepdim=True)).abs().mean(1)


def _to_unit(maps: Tensor) -> Tensor:
    """Returns maps (B, H, W), each scaled to [0, 1]."""
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return (maps - low) / (high - low).clamp_min(1e-12)


def _gradient(function: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Returns the gradient of a function that gives one number for each image; also works within `inference_mode`."""
    with torch.inference_mode(False), torch.enable_grad():
        variable = images.clone().requires_grad_()
        (found,) = torch.autograd.grad(function(variable).sum(), variable)
    return found
