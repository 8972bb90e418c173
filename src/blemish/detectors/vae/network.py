"""The network of Gangloff et al. (2023) and its loss.

The stem and the first stages of a ResNet-18 encode an image of l×l pixels to Gaussians on a grid of l/8×l/8 sites;
transposed convolutions decode. With stride 32 it is all of a ResNet-18, as in the VAE that PaDiM is compared with.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import ContinuousBernoulli
from torch.optim import Optimizer

from blemish.detectors.vae.augmented import Augmented
from blemish.detectors.vae.random_field import FINE_FLOOR, SHORTEST, RandomField, base
from blemish.training import Noise

STRIDES = (8, 16, 32)
"""Pixels per site of the code, on each side, that a network may have."""

LONGEST = 10.0
"""The longest range of a `JointField` by default, in pixels, as in the published code."""


class Network(nn.Module):
    """Encoder and decoder; images (B, 3, l, l) between 0 and 1.

    Args:
        latent: channels of the code.
        stride: pixels per site of the code, one of `STRIDES`.
    """

    def __init__(self, latent: int, stride: int = 8) -> None:
        import timm

        super().__init__()
        halvings = stride.bit_length() - 1
        # Untrained: the stem and as many stages as halve the image so often.
        self.encoder: nn.Module = timm.create_model(
            "resnet18", pretrained=False, features_only=True, out_indices=(halvings - 1,), zero_init_last=False
        )
        widths = [16 * stride >> halving for halving in range(halvings)]  # 128, 64, 32 for stride 8
        self.code = nn.Conv2d(widths[0], 2 * latent, 1)
        grown = (part for one, other in pairwise([*widths, 3]) for part in _grown(one, other))
        self.decoder = nn.Sequential(nn.Conv2d(latent, widths[0], 1), *grown)

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Returns means and log variances (B, latent, l/stride, l/stride) of the codes."""
        (features,) = self.encoder(images)
        mean, log_variance = self.code(features).chunk(2, 1)
        return mean, log_variance.clamp(-20, 20)

    def decode(self, codes: Tensor) -> Tensor:
        """Returns logits (B, 3, l, l) of the continuous Bernoulli's parameter at each pixel."""
        logits: Tensor = self.decoder(codes)
        return logits


class FixedField(nn.Module):
    """A constant prior of the codes: the same field for each channel."""

    eigenvalues: Tensor

    def __init__(self, field: RandomField) -> None:
        super().__init__()
        self.width = field.width
        self.register_buffer("eigenvalues", field.eigenvalues.float(), persistent=False)

    def forward(self) -> RandomField:
        return RandomField(self.eigenvalues, self.width)

    def terms(self, images: Tensor) -> dict[str, Tensor]:
        """Returns what it adds to the loss: nothing."""
        return {}


class JointField(nn.Module):
    """A prior of the codes whose range and variance follow the gradient of the images' likelihood, step by step.

    As in the published code, it starts at range 1 and variance 0.01 and is trained by Rprop; the range is kept between
    `SHORTEST` and the longest, the variance between 0.001 and 25.

    Args:
        correlation: one of `CORRELATIONS`.
        shape: of the images.
        stride: pixels per site of the code.
        longest: the longest range, in pixels.
    """

    def __init__(self, correlation: str, shape: tuple[int, int], stride: int, longest: float = LONGEST) -> None:
        super().__init__()
        self.correlation, self.shape, self.stride, self.longest = correlation, shape, stride, longest
        self.log_range = nn.Parameter(torch.tensor(0.0))
        self.log_deviation = nn.Parameter(torch.tensor(math.log(0.1)))

    @property
    def range(self) -> Tensor:
        """Range in pixels of the images."""
        return self.log_range.exp()

    @property
    def variance(self) -> Tensor:
        """Variance at a pixel."""
        return (2 * self.log_deviation).exp()

    def forward(self) -> RandomField:
        sites = self.shape[0] // self.stride, self.shape[1] // self.stride
        range_, variance = self.range.item() / self.stride, self.variance.item()
        field = RandomField.from_base(base(self.correlation, range_, variance, *sites))
        return RandomField(field.eigenvalues.to(self.log_range), field.width)

    def terms(self, images: Tensor) -> dict[str, Tensor]:
        """Returns the images' negative log likelihood in nats per pixel and colour (paper, eqs. 10 and 14)."""
        with torch.no_grad():
            self.log_range.clamp_(math.log(SHORTEST), math.log(self.longest))
            self.log_deviation.clamp_(math.log(0.001) / 2, math.log(5))
        centred = images.float() - images.float().mean((2, 3), keepdim=True)
        periodogram = torch.fft.rfft2(centred, norm="ortho").abs().square().mean((0, 1))
        # In double precision, which a graphics processor may not have, and without the images, which are many.
        range_, variance = self.range.cpu().double(), self.variance.cpu().double()
        field = RandomField.from_base(base(self.correlation, range_, variance, *self.shape), FINE_FLOOR)
        likelihood = field.log_likelihood_of_periodogram(periodogram.cpu().double())
        return {"prior": (-likelihood / (self.shape[0] * self.shape[1])).to(self.log_range)}


class Objective(nn.Module):
    """The paper's loss, with its sign turned and divided by the number of an image's values (eqs. 9 and 10).

    The likelihood is summed over pixels and colours, the divergence over sites and channels, as in eqs. 8 and 12, so
    `beta` is the paper's. The divisor of all terms, 3·H·W, makes images of any size comparable and moves no minimum.

    Args:
        network: to be trained.
        prior: of the codes; what it adds to the loss depends on its own parameters alone.
        beta: weight of the divergence.
        augmented: how images are changed before each step.
    """

    def __init__(
        self,
        network: Network,
        prior: FixedField | JointField,
        beta: float,
        augmented: Augmented | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.prior = prior
        self.beta = beta
        self.augmented = augmented
        self.noise = Noise()

    def optimizers(self, learning_rate: float) -> list[Optimizer]:
        """Returns Adam for the network, and the published Rprop for the prior's parameters, if it has any."""
        found: list[Optimizer] = [torch.optim.Adam(self.network.parameters(), lr=learning_rate)]
        if own := list(self.prior.parameters()):
            found.append(torch.optim.Rprop(own, lr=1e-10))
        return found

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Returns the terms of the loss in nats per pixel and colour: `loss` is minimised, `elbo` is eq. 9."""
        if self.augmented is not None:
            images = self.augmented(images)
        reconstruction, divergence = (term.mean() for term in elbo(self.network, self.prior(), images, self.noise))
        weighted = reconstruction + self.beta * divergence
        added = self.prior.terms(images)
        return {
            "loss": weighted + sum(added.values()),
            "elbo": -weighted,
            "reconstruction": reconstruction,
            "divergence": divergence,
            **added,
        }


def elbo(network: Network, prior: RandomField, images: Tensor, noise: Noise | None = None) -> tuple[Tensor, Tensor]:
    """Returns for images (B, 3, l, l) -log p(x|z) and KL(q(z|x) || p(z)), (B,) each, in nats per pixel and colour.

    With `noise`, z is drawn from the posterior; else it is the posterior's mean.
    """
    mean, log_variance = network.encode(images)
    codes = mean + torch.exp(log_variance / 2) * noise(mean) if noise else mean
    divergence = prior.divergence(_whole(mean), _whole(log_variance).exp()).sum(1)
    return -log_likelihood(network.decode(codes), images).mean((1, 2, 3)), divergence / images[0].numel()


def log_likelihood(logits: Tensor, images: Tensor) -> Tensor:
    """Returns that of a continuous Bernoulli (Loaiza-Ganem & Cunningham 2019), at every pixel and colour."""
    distribution: Any = ContinuousBernoulli(logits=_whole(logits), validate_args=False)  # torch gives it no types
    found: Tensor = distribution.log_prob(images)
    return found


def _whole(values: Tensor) -> Tensor:
    """Returns values in float32 or better, since the network may compute in less."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _grown(channels: int, left: int) -> list[nn.Module]:
    return [nn.BatchNorm2d(channels), nn.ReLU(), nn.ConvTranspose2d(channels, left, 4, stride=2, padding=1)]


def continuous_bernoulli_mean(logits: Tensor) -> Tensor:
    """Returns p / (2p - 1) + 1 / (2 artanh(1 - 2p)) with p = sigmoid(l), which is 1 / (1 - exp(-l)) - 1 / l.

    Near l = 0 its series is used (Loaiza-Ganem & Cunningham 2019, eq. 8).
    """
    near = logits.abs() < 0.1
    safe = torch.where(near, torch.ones_like(logits), logits)
    exact = -1 / torch.expm1(-safe) - 1 / safe
    return torch.where(near, 0.5 + logits / 12 - logits**3 / 720, exact)
