"""The VAE whose prior is a Gaussian random field on the torus (Gangloff et al. 2023): neighbouring codes are alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from blemish.detectors.detector import Features, Grid
from blemish.detectors.vae import STRIDE, VAE
from blemish.errors import SettingError
from blemish.random_field import CORRELATIONS, Prior, RandomField, base, fit_prior
from blemish.statistics import Periodogram


@dataclass(kw_only=True)
class VAEGRF(VAE):
    """Each channel of the code is a random field whose range and variance are those of the images themselves.

    They are fitted to the training images by exact likelihood, once, before the network is trained; the field of the
    code has the images' variance and an eighth of their range, as it has an eighth of their sites on a side.

    Attributes:
        correlation: of the field: `matern-1/2`, `matern-3/2`, `gaussian`, or `identity`.
    """

    name: ClassVar[str] = "vae-grf"

    correlation: str = "matern-3/2"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.periodogram_ = Periodogram.empty(1, 1)
        self.prior_: Prior | None = None
        if self.correlation not in CORRELATIONS:
            raise SettingError(f"no correlation is called {self.correlation!r}; give one of {', '.join(CORRELATIONS)}")

    def _start(self, grids: list[Grid]) -> None:
        super()._start(grids)
        self.periodogram_ = Periodogram.empty(*grids[0][1:])

    def _take_in(self, features: Features) -> None:
        super()._take_in(features)
        self.prior_ = None
        images = features[0]
        self.periodogram_.update(images - images.mean((2, 3), keepdim=True))

    def prior_of_images(self) -> Prior:
        """Range in pixels and variance of the training images, each colour centred."""
        if self.prior_ is None:
            self.prior_ = fit_prior(self.periodogram_.finish(), self.periodogram_.width, self.correlation)
        return self.prior_

    def prior(self) -> RandomField:
        found = self.prior_of_images()
        _, height, width = self.grids_[0]
        return RandomField.from_base(
            base(self.correlation, found.range / STRIDE, found.variance, height // STRIDE, width // STRIDE)
        )

    def tensors(self) -> dict[str, Tensor]:
        statistic = {"count": torch.tensor(self.periodogram_.count), "total": self.periodogram_.total}
        return {**super().tensors(), **{f"periodogram.{name}": tensor for name, tensor in statistic.items()}}

    def _restore(self, tensors: Mapping[str, Tensor]) -> None:
        super()._restore(tensors)
        count, total = tensors["periodogram.count"], tensors["periodogram.total"]
        self.periodogram_ = Periodogram(int(count), total, self.grids_[0][2])

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
