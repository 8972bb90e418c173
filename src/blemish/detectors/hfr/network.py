"""The decoder that reconstructs a frozen backbone's features, from the coarsest layer to the finest (HFR)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from blemish.detectors.detector import Grid

TINY = 1e-6
"""The smallest length of a feature vector by which is divided."""


class Decoder(nn.Module):
    """Reconstructs the features of K layers, the finest first, from those of the coarsest.

    f_dec^K = conv1x1(Convs(f_enc^K)); f_dec^k = conv1x1(Convs(up(f_dec^(k+1)))), by nearest-neighbour upsampling to the
    layer's own size (paper, eqs. 3 and 4).

    Args:
        grids: channels, height and width of each layer, the finest first.
        width: channels inside Convs, as a multiple of the layer's own.
        depth: blocks with a kernel of 3x3 in each Convs.
    """

    def __init__(self, grids: Sequence[Grid], width: float, depth: int = 1) -> None:
        super().__init__()
        self.sizes = [(height, rows) for _, height, rows in grids]
        coming = [channels for channels, _, _ in grids[1:]] + [grids[-1][0]]
        self.levels = nn.ModuleList(
            _level(before, max(1, round(width * channels)), channels, depth)
            for before, (channels, _, _) in zip(coming, grids, strict=True)
        )

    def forward(self, coarsest: Tensor) -> list[Tensor]:
        """Returns reconstructions of all layers, the finest first, from the coarsest one (B, C_K, H_K, W_K)."""
        found = [self.levels[-1](coarsest)]
        for level, size in zip(reversed(self.levels[:-1]), reversed(self.sizes[:-1]), strict=True):
            found.append(level(F.interpolate(found[-1], size=size, mode="nearest")))
        return found[::-1]


def residuals(features: Sequence[Tensor], made: Sequence[Tensor]) -> list[Tensor]:
    """Returns phi_k summed over channels (B, H_k, W_k): half the squared distance of unit vectors (eqs. 5 and 6)."""
    return [0.5 * (_unit(one) - _unit(other)).square().sum(1) for one, other in zip(features, made, strict=True)]


class Reconstruction(nn.Module):
    """The loss: the mean over layers of the mean of phi_k over positions (eqs. 7 and 8)."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def optimizers(self, learning_rate: float) -> list[Optimizer]:
        """Returns the paper's SGD."""
        return [torch.optim.SGD(self.parameters(), lr=learning_rate, momentum=0.9, weight_decay=1e-4)]

    def forward(self, features: Sequence[Tensor]) -> dict[str, Tensor]:
        made = self.decoder(features[-1])
        terms = [residual.mean() for residual in residuals(features, [layer.float() for layer in made])]
        return {
            "loss": torch.stack(terms).mean(),
            **{f"layer{number}": term for number, term in enumerate(terms, 1)},
        }


def _level(coming: int, inside: int, going: int, depth: int) -> nn.Sequential:
    blocks: list[nn.Module] = []
    for before, after, kernel in ((coming, inside, 1), *[(inside, inside, 3)] * depth, (inside, inside, 1)):
        blocks += [
            nn.Conv2d(before, after, kernel, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(after),
            nn.LeakyReLU(0.1),
        ]
    return nn.Sequential(*blocks, nn.Conv2d(inside, going, 1))


def _unit(features: Tensor) -> Tensor:
    """Returns features in which every position's vector of channels has length 1."""
    return features / features.square().sum(1, keepdim=True).sqrt().clamp_min(TINY)
