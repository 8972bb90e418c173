"""Stationary Gaussian random fields on a torus, by the eigenvalues of their covariance; no matrix is ever (n², n²).

The covariance of a field on n×m sites that depends on their distance alone, wrapped around, is block-circulant: the
discrete Fourier transform diagonalises it, and its eigenvalues are the transform of its first row, the base. So
products, inverses, determinants and samples cost one transform (Rue & Held 2005, section 2.6).
Everything is differentiable in the base and in the fields, in float32 and float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from blemish.errors import SettingError, ShapeError

FLOOR = 1e-6
"""Eigenvalues below this share of the largest are raised to it: wrapping around can make them zero or negative.

It is about the precision of float32, in which the field of the code is used.
"""

FINE_FLOOR = 1e-12
"""The same where a field is fitted to images, in double precision.

The eigenvalues of a smooth field of long range span more than six decades, and a higher floor would take the smallest
ones for noise, which shortens the range.
"""

SHORTEST = 0.1
"""The shortest range that is searched for, in pixels."""

GRID_STEP = 1.03
"""The ratio of two ranges that are tried one after the other; then the best is refined between its neighbours.

The steps are small: where wrapping around pushes eigenvalues to the floor, the likelihood falls within a few per cent
beyond the best range, and has smaller maxima below it.
"""

CORRELATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "matern-1/2": lambda ratio: torch.exp(-ratio),
    # As in the paper, without the usual factor of sqrt(3) before the ratio: its range is shorter by that factor.
    "matern-3/2": lambda ratio: (1 + ratio) * torch.exp(-ratio),
    "gaussian": lambda ratio: torch.exp(-ratio.square()),
    "identity": lambda ratio: (ratio == 0).to(ratio.dtype),
}
"""Correlations by name, as functions of the distance divided by the range."""


def torus_distances(height: int, width: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Returns Euclidean distances (height, width) of a torus's sites from the first, the shorter way around."""
    down, across = (torch.arange(side, dtype=dtype) for side in (height, width))
    return torch.hypot(torch.minimum(down, height - down)[:, None], torch.minimum(across, width - across)[None])


def base(
    correlation: str,
    range_: float | Tensor,
    variance: float | Tensor,
    height: int,
    width: int,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """Returns the covariances (height, width) of all sites with the first one.

    Args:
        correlation: one of `CORRELATIONS`.
        range_: in sites, above 0; a tensor for a gradient.
        variance: at a site, above 0; a tensor for a gradient.
        height, width: of the torus.
        dtype: of the result.

    Raises:
        SettingError: an unknown correlation, or a number out of range.
    """
    if correlation not in CORRELATIONS:
        raise SettingError(f"no correlation is called {correlation!r}; give one of {', '.join(CORRELATIONS)}")
    for name, value in (("range", range_), ("variance", variance)):
        number = float(torch.as_tensor(value).detach())
        if not 0 < number < float("inf"):
            raise SettingError(f"{name} {number:g} is out of range; give a number above 0")
    result: Tensor = variance * CORRELATIONS[correlation](torus_distances(height, width, dtype) / range_)
    return result


@dataclass(frozen=True)
class RandomField:
    """A zero-mean Gaussian field on a torus.

    Attributes:
        eigenvalues: of its covariance, at the frequencies of a real transform (H, W // 2 + 1), all above 0.
        width: columns W of the torus.
        floored: how many of all H·W eigenvalues were raised to the floor.
    """

    eigenvalues: Tensor
    width: int
    floored: int = 0

    @classmethod
    def from_base(cls, covariances: Tensor, floor: float = FLOOR) -> RandomField:
        """Returns the field whose sites have these covariances (H, W) with the first one.

        The eigenvalues are n F(base), with F the unitary transform: that is the transform without a factor (paper,
        eq. 19). Those below the share `floor` of the largest are raised to it.
        """
        values = torch.fft.rfft2(covariances).real
        least = floor * values.max().detach()
        low = values < least
        width = covariances.shape[-1]
        floored = int((low * multiplicities(*covariances.shape[-2:]).to(low.device)).sum())
        return cls(torch.where(low, least, values), width, floored)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the torus."""
        return (len(self.eigenvalues), self.width)

    def base(self) -> Tensor:
        """Returns the covariances (H, W) of all sites with the first one."""
        found: Tensor = torch.fft.irfft2(self.eigenvalues, s=self.shape)
        return found

    def times(self, fields: Tensor) -> Tensor:
        """Returns the covariance times fields (..., H, W) (paper, eq. 20, whose right side has U where V is meant)."""
        return self._filtered(fields, self.eigenvalues)

    def log_determinant(self) -> Tensor:
        """Returns the log determinant of the covariance."""
        return self.sum(self.eigenvalues.log())

    def squared_distance(self, fields: Tensor) -> Tensor:
        """Returns v^T Σ^-1 v, a number for each field v (..., H, W)."""
        amplitudes = torch.fft.rfft2(fields, norm="ortho").abs().square()
        return self.sum(amplitudes / self.eigenvalues)

    def log_likelihood(self, fields: Tensor) -> Tensor:
        """Returns a number for each of the fields (..., H, W) (paper, eq. 14)."""
        return self.log_likelihood_of_periodogram(torch.fft.rfft2(fields, norm="ortho").abs().square())

    def log_likelihood_of_periodogram(self, periodogram: Tensor) -> Tensor:
        """Returns the mean log likelihood of fields with this mean periodogram (..., H, W // 2 + 1)."""
        logs = self.eigenvalues.log() + periodogram / self.eigenvalues
        return -(self.sum(logs) + self.shape[0] * self.shape[1] * math.log(2 * math.pi)) / 2

    def divergence(self, mean: Tensor, variance: Tensor) -> Tensor:
        """Returns KL(N(mean, diag variance) || this field), a number for each mean and variance (paper, eq. 12).

        (log|Σ| - Σ_k log L_k - n² + m^T Σ^-1 m + base(Σ^-1)[0, 0] Σ_k L_k) / 2, with L the variances.

        Args:
            mean: (..., H, W).
            variance: (..., H, W), above 0.
        """
        sites = self.shape[0] * self.shape[1]
        precision = self.sum(1 / self.eigenvalues) / sites  # base(Σ^-1)[0, 0]
        trace = precision * variance.sum((-2, -1))
        return (self.log_determinant() - variance.log().sum((-2, -1)) - sites + self.squared_distance(mean) + trace) / 2

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Returns fields (count, H, W): F⁻¹(sqrt(L) F(white noise))."""
        noise = torch.randn(count, *self.shape, generator=generator, dtype=self.eigenvalues.dtype)
        return self._filtered(noise.to(self.eigenvalues.device), self.eigenvalues.sqrt())

    def _filtered(self, fields: Tensor, gains: Tensor) -> Tensor:
        if fields.shape[-2:] != self.shape:
            raise ShapeError(f"fields of shape {tuple(fields.shape)} do not lie on a torus of {self.shape} sites")
        filtered: Tensor = torch.fft.irfft2(torch.fft.rfft2(fields) * gains, s=self.shape)
        return filtered

    def sum(self, values: Tensor) -> Tensor:
        """Returns the sum over all H·W frequencies of values (..., H, W // 2 + 1) at those of a real transform."""
        weights = multiplicities(*self.shape).to(values)
        return (values * weights).sum((-2, -1))


def multiplicities(height: int, width: int) -> Tensor:
    """Returns how many frequencies each of a real transform's stands for, (height, width // 2 + 1): 1 or 2."""
    weights = torch.full((height, width // 2 + 1), 2)
    weights[:, 0] = 1
    if width % 2 == 0:
        weights[:, -1] = 1
    return weights


@dataclass(frozen=True)
class Prior:
    """A field fitted to images.

    Attributes:
        correlation: its kind.
        range: in pixels of the images.
        variance: at a pixel.
        log_likelihood: of the images, the mean per pixel, without the constant -log(2π) / 2.
        floored: how many eigenvalues of the images' field were raised to `FINE_FLOOR` times the largest.
    """

    correlation: str
    range: float
    variance: float
    log_likelihood: float
    floored: int = 0


def prior_at(periodogram: Tensor, width: int, correlation: str, range_: float, variance: float) -> Prior:
    """Returns a prior of this range and variance, with the likelihood of images with this periodogram."""
    field = RandomField.from_base(base(correlation, range_, variance, len(periodogram), width), FINE_FLOOR)
    likelihood = float(field.log_likelihood_of_periodogram(periodogram.double())) / (len(periodogram) * width)
    return Prior(correlation, range_, variance, likelihood + math.log(2 * math.pi) / 2, field.floored)


def fit_prior(
    periodogram: Tensor,
    width: int,
    correlation: str,
    *,
    range_bounds: tuple[float, float] | None = None,
    least_variance: float = 0.001,
) -> Prior:
    """Returns the range and variance that maximise the likelihood of images with this mean periodogram.

    The likelihood depends on the images through the periodogram alone, -1/2 Σ_k (log L_k + P_k / L_k). For a given
    range the best variance is the mean of P_k over the eigenvalues for variance 1, so only the range is searched for.

    Args:
        periodogram: (H, W // 2 + 1), as `Periodogram.finish` gives it.
        width: W.
        correlation: one of `CORRELATIONS`.
        range_bounds: in pixels; from 0.1 to a quarter of the shorter side by default.
        least_variance: the smallest variance allowed.

    Raises:
        SettingError: an unknown correlation, or bounds out of range.
    """
    from scipy.optimize import minimize_scalar

    height = len(periodogram)
    low, high = range_bounds or (SHORTEST, min(height, width) / 4)
    if not 0 < low < high:
        raise SettingError(f"bounds of the range from {low:g} to {high:g} are out of order; give 0 < lowest < highest")
    if not least_variance > 0:
        raise SettingError(f"a least variance of {least_variance:g} is out of range; give a number above 0")
    if correlation not in CORRELATIONS:
        raise SettingError(f"no correlation is called {correlation!r}; give one of {', '.join(CORRELATIONS)}")
    observed, distances = periodogram.double(), torus_distances(height, width)
    sites = height * width

    def likeliest_variance(log_range: float) -> tuple[float, float]:
        """Returns the best variance for a range, and twice the negative log likelihood per pixel without a constant."""
        unit = RandomField.from_base(CORRELATIONS[correlation](distances / math.exp(log_range)), FINE_FLOOR)
        mean = float(unit.sum(observed / unit.eigenvalues)) / sites
        variance = max(mean, least_variance)
        return variance, float(unit.log_determinant()) / sites + math.log(variance) + mean / variance

    def misfit(log_range: float) -> float:
        return likeliest_variance(log_range)[1]

    count = 2 + math.ceil(math.log(high / low) / math.log(GRID_STEP))
    grid = np.linspace(math.log(low), math.log(high), count)
    best = int(np.argmin([misfit(place) for place in grid]))
    bounds = (grid[max(best - 1, 0)], grid[min(best + 1, count - 1)])
    found = minimize_scalar(misfit, bounds=bounds, method="bounded", options={"xatol": 1e-5})
    place = min((float(found.x), float(grid[best])), key=misfit)
    return prior_at(observed, width, correlation, math.exp(place), likeliest_variance(place)[0])
