"""A linear autoencoder of vectors, whose optimum is their principal subspace, and conversions between the two."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blemish.statistics import Principal


class LinearAutoencoder(nn.Module):
    """Reconstructs u as A (W (u - m) + b) + c: one layer D -> r, and one r -> D; tied, A is W^T (FRE, section 3).

    The mean m is fixed. It adds no functions, since b could hold it. But without it, where the mean is long, weights
    along it can change only together with b, and training would be slow.

    Args:
        dim: D.
        directions: r.
        tied: whether the decoder's weights are the encoder's, transposed.
    """

    mean: Tensor

    def __init__(self, dim: int, directions: int, tied: bool) -> None:
        super().__init__()
        self.encoder = nn.Linear(dim, directions)
        untied = torch.empty(directions, 0 if tied else dim).uniform_(-1, 1) / directions**0.5
        self.untied = None if tied else nn.Parameter(untied)
        self.bias = nn.Parameter(torch.zeros(dim))
        self.register_buffer("mean", torch.zeros(dim))

    @property
    def decoder(self) -> Tensor:
        """The decoder's weights, transposed, (r, D)."""
        weight: Tensor = self.encoder.weight
        return weight if self.untied is None else self.untied

    def centre(self, mean: Tensor) -> None:
        """Sets the mean (D,), which is then reconstructed exactly."""
        with torch.no_grad():
            self.mean.copy_(mean)
            self.bias.copy_(mean)
            self.encoder.bias.zero_()

    def reconstruct(self, vectors: Tensor) -> Tensor:
        """Returns the reconstructions (B, D) of vectors (B, D)."""
        made: Tensor = self.encoder(vectors - self.mean) @ self.decoder + self.bias
        return made

    def forward(self, vectors: Tensor) -> Tensor:
        """Returns the residuals (B, D) of vectors (B, D)."""
        return vectors - self.reconstruct(vectors)

    @classmethod
    def from_principal(cls, principal: Principal, tied: bool) -> LinearAutoencoder:
        """Returns the autoencoder that projects on the subspace: W = B^T, b = 0, A = B, c = m."""
        basis = principal.basis  # (D, r)
        made = cls(len(principal.mean), basis.shape[1], tied)
        with torch.no_grad():
            made.encoder.weight.copy_(basis.T)
            made.decoder.copy_(basis.T)
        made.centre(principal.mean)
        return made

    def to_principal(self, vectors: Tensor) -> Principal:
        """Returns the subspace that the decoder spans, with an orthonormal basis.

        Args:
            vectors: (N, D), those it was trained on; mean, energy and the share kept are computed from them.
        """
        rows = self.decoder.detach()
        # Orthonormal rows Q with Q^T spanning the decoder's: the QR decomposition of its transpose, in float64.
        _, upper = torch.linalg.qr(rows.T.double(), mode="r")
        mixing = torch.linalg.solve_triangular(upper.T, torch.eye(len(rows), dtype=torch.float64), upper=False)
        mean = vectors.mean(0)
        centred = vectors - mean
        energy = float(centred.double().square().sum())
        inside = float(F.linear(F.linear(centred, rows).double(), mixing).square().sum())
        return Principal(mean, rows, mixing, inside / energy if energy else 1.0, energy)
