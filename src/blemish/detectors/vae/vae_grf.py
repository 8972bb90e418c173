"""The VAE whose prior is a Gaussian random field on a torus (Gangloff et al. 2023): neighbouring sites are alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, cast

from torch import Tensor, nn

from blemish.detectors.detector import Features, Grid
from blemish.detectors.vae.network import LONGEST, FixedField, JointField
from blemish.detectors.vae.random_field import CORRELATIONS, SHORTEST, Prior, RandomField, base, fit_prior, prior_at
from blemish.detectors.vae.vae import VAE
from blemish.expected import Choice, Kind, Maybe, Number
from blemish.statistics import Periodogram, Statistic

BOUNDED = 0.99
"""A range above this share of the longest one has stopped at it."""


@dataclass(kw_only=True)
class VAEGRF(VAE):
    """A VAE in which each channel of the code is a random field, with range and variance of the images.

    Range and variance are fitted to the training images by exact likelihood, once, before the network is trained. The
    code's field has the images' variance and an eighth of their range, since it has an eighth of their sites on each
    side; with another `stride` it is another share.

    Attributes:
        correlation: of the field: `matern-1/2`, `matern-3/2`, `gaussian`, or `identity`, which has variance 1 and so is
            the ordinary VAE.
        estimate: `exact`, as above; or `joint`, as in the paper: range and variance are trained with the network, by
            the gradient of each batch's likelihood.
        longest_range: the longest range that may be found, in pixels; by default a quarter of the image's shorter side
            for `exact`, and 10 for `joint`, as in the published code.
    """

    name: ClassVar[str] = "vae-grf"

    allowed: ClassVar[Mapping[str, Kind]] = {
        "correlation": Choice(*CORRELATIONS),
        "estimate": Choice("exact", "joint"),
        "longest_range": Maybe(Number(SHORTEST, 4096, above=True)),
    }

    correlation: str = "matern-3/2"
    estimate: str = "exact"
    longest_range: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.prior_: Prior | None = None
        self.joint_: JointField | None = None

    @property
    def is_correlated(self) -> bool:
        """Whether neighbouring sites are alike; else it is the ordinary VAE."""
        return self.correlation != "identity"

    def empty(self, grids: list[Grid]) -> dict[str, Statistic]:
        maps = super().empty(grids)
        height, width = grids[0][1:]
        if self.estimate == "joint" and self.is_correlated:
            self.joint_ = JointField(self.correlation, (height, width), self.stride, self.longest_range or LONGEST)
        return {**maps, "periodogram": Periodogram.empty(height, width)}

    def batches(self, features: Features) -> Iterator[tuple[str, Tensor]]:
        self.prior_ = None
        images = features[0]
        yield "periodogram", images - images.mean((2, 3), keepdim=True)

    def networks(self) -> dict[str, nn.Module]:
        return {**super().networks(), **({} if self.joint_ is None else {"joint": self.joint_})}

    def prior_of_images(self) -> Prior:
        """Returns range in pixels and variance of the training images, each colour centred."""
        periodogram = cast(Periodogram, self.statistics_["periodogram"])
        if self.joint_ is not None:
            reached = self.joint_.range.item(), self.joint_.variance.item()
            return prior_at(periodogram.finish(), periodogram.width, self.correlation, *reached)
        if self.prior_ is None:
            bounds = SHORTEST, self.longest
            self.prior_ = fit_prior(periodogram.finish(), periodogram.width, self.correlation, range_bounds=bounds)
        return self.prior_

    @property
    def longest(self) -> float:
        """The longest range that may be found, in pixels."""
        _, height, width = self.grids_[0]
        return self.longest_range or (LONGEST if self.estimate == "joint" else min(height, width) / 4)

    def prior(self) -> RandomField:
        if not self.is_correlated:
            return super().prior()
        found = self.prior_of_images()
        return RandomField.from_base(base(self.correlation, found.range / self.stride, found.variance, *self.sites))

    def trained_prior(self) -> FixedField | JointField:
        return super().trained_prior() if self.joint_ is None else self.joint_

    def summary(self) -> dict[str, Any]:
        """Returns also range and variance of the images' field, and how many eigenvalues were raised to a floor.

        `range_is_bounded` says that the likelihood may still grow beyond the longest range that may be found.
        """
        if not self.is_correlated:
            return super().summary()
        found = self.prior_of_images()
        return {
            **super().summary(),
            "range": found.range,
            "range_is_bounded": found.range > BOUNDED * self.longest,
            "longest_range": self.longest,
            "variance": found.variance,
            "log_likelihood": found.log_likelihood,
            "floored_eigenvalues": self.prior().floored,
            "floored_eigenvalues_of_images": found.floored,
        }
