"""The network of Gangloff et al. (2023) and its loss.

The stem and the first two stages of a ResNet-18 encode an image of l×l pixels to Gaussians on a grid of l/8×l/8 sites;
three transposed convolutions decode.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import ContinuousBernoulli

from blemish.random_field import RandomField


class Network(nn.Module):
    """Encoder and decoder; images (B, 3, l, l) between 0 and 1.

    Args:
        latent: channels of the code.
    """

    def __init__(self, latent: int) -> None:
        import timm

        super().__init__()
        # The stem, layer1 and layer2, untrained; the features are those of stride 8.
        self.encoder: nn.Module = timm.create_model(
            "resnet18", pretrained=False, features_only=True, out_indices=(2,), zero_init_last=False
        )
        self.code = nn.Conv2d(128, 2 * latent, 1)
        self.decoder = nn.Sequential(
            nn.Conv2d(latent, 128, 1),
            *_grown(128, 64),
            *_grown(64, 32),
            *_grown(32, 3),
        )

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Means and log variances (B, latent, l/8, l/8) of the codes."""
        (features,) = self.encoder(images)
        mean, log_variance = self.code(features).chunk(2, 1)
        return mean, log_variance.clamp(-20, 20)

    def decode(self, codes: Tensor) -> Tensor:
        """Logits (B, 3, l, l) of the continuous Bernoulli's parameter at each pixel."""
        logits: Tensor = self.decoder(codes)
        return logits


class Objective(nn.Module):
    """-(E[log p(x|z)] - beta KL): the first a mean over pixels and colours, the second over sites and channels."""

    eigenvalues: Tensor

    def __init__(self, network: Network, prior: RandomField, beta: float) -> None:
        super().__init__()
        self.network = network
        self.beta = beta
        self.width = prior.width
        self.register_buffer("eigenvalues", prior.eigenvalues.float(), persistent=False)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        mean, log_variance = self.network.encode(images)
        codes = mean + torch.exp(log_variance / 2) * torch.randn_like(mean)
        likelihood: Any = ContinuousBernoulli(logits=self.network.decode(codes).float())  # torch gives it no types
        reconstruction = -likelihood.log_prob(images).mean()
        prior = RandomField(self.eigenvalues, self.width)
        divergence = prior.divergence(mean.float(), log_variance.float().exp())
        divergence = divergence.mean() / (mean.shape[2] * mean.shape[3])
        return {
            "loss": reconstruction + self.beta * divergence,
            "reconstruction": reconstruction,
            "divergence": divergence,
        }


def _grown(channels: int, left: int) -> list[nn.Module]:
    return [nn.BatchNorm2d(channels), nn.ReLU(), nn.ConvTranspose2d(channels, left, 4, stride=2, padding=1)]


def continuous_bernoulli_mean(logits: Tensor) -> Tensor:
    """p / (2p - 1) + 1 / (2 artanh(1 - 2p)) with p = sigmoid(l), which is 1 / (1 - exp(-l)) - 1 / l.

    Near l = 0 by its series (Loaiza-Ganem & Cunningham 2019, eq. 8).
    """
    near = logits.abs() < 0.1
    safe = torch.where(near, torch.ones_like(logits), logits)
    exact = -1 / torch.expm1(-safe) - 1 / safe
    return torch.where(near, 0.5 + logits / 12 - logits**3 / 720, exact)
