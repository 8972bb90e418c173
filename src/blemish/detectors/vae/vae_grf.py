"""The VAE whose prior is a Gaussian random field on a torus (Gangloff et al. 2023): neighbouring sites are alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, cast

from torch import Tensor, nn

from blemish.detectors.detector import Features, Grid
from blemish.detectors.vae.head import STRIDE
from blemish.detectors.vae.network import JointField, Objective
from blemish.detectors.vae.random_field import CORRELATIONS, Prior, RandomField, base, fit_prior, prior_at
from blemish.detectors.vae.vae import VAE
from blemish.errors import SettingError
from blemish.statistics import Periodogram, Statistic


@dataclass(kw_only=True)
class VAEGRF(VAE):
    """A VAE in which each channel of the code is a random field, with range and variance of the images.

    They are fitted to the training images by exact likelihood, once, before the network is trained. The code's field
    has the images' variance and an eighth of their range, since it has an eighth of their sites on each side.

    Attributes:
        correlation: of the field: `matern-1/2`, `matern-3/2`, `gaussian`, or `identity`.
        estimate: `exact`, as above; or `joint`, as in the paper: range and variance are trained with the network, by
            the gradient of each batch's likelihood.
    """

    name: ClassVar[str] = "vae-grf"

    correlation: str = "matern-3/2"
    estimate: str = "exact"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.prior_: Prior | None = None
        self.joint_: JointField | None = None
        if self.estimate not in {"exact", "joint"}:
            raise SettingError(f"estimate {self.estimate!r} is not known; give exact or joint")
        if self.correlation not in CORRELATIONS:
            raise SettingError(f"no correlation is called {self.correlation!r}; give one of {', '.join(CORRELATIONS)}")

    def empty(self, grids: list[Grid]) -> dict[str, Statistic]:
        maps = super().empty(grids)
        height, width = grids[0][1:]
        if self.estimate == "joint":
            self.joint_ = JointField(self.correlation, (height, width), STRIDE)
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
            self.prior_ = fit_prior(periodogram.finish(), periodogram.width, self.correlation)
        return self.prior_

    def prior(self) -> RandomField:
        found = self.prior_of_images()
        _, height, width = self.grids_[0]
        return RandomField.from_base(
            base(self.correlation, found.range / STRIDE, found.variance, height // STRIDE, width // STRIDE)
        )

    def objective(self) -> nn.Module:
        if self.joint_ is None:
            return super().objective()
        return Objective(self.network, self.joint_, self.beta)

    def summary(self) -> dict[str, Any]:
        found = self.prior_of_images()
        field = self.prior()
        return {
            **super().summary(),
            "range": found.range,
            "variance": found.variance,
            "log_likelihood": found.log_likelihood,
            "floored_eigenvalues": field.floored,
        }
