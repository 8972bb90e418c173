"""The VAE whose prior is a Gaussian random field on the torus (Gangloff et al. 2023): neighbouring codes are alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from blemish.detectors.detector import Features, Grid
from blemish.detectors.vae.head import STRIDE
from blemish.detectors.vae.network import JointField, Objective
from blemish.detectors.vae.random_field import CORRELATIONS, Prior, RandomField, base, fit_prior, prior_at
from blemish.detectors.vae.vae import VAE
from blemish.errors import SettingError
from blemish.statistics import Periodogram


@dataclass(kw_only=True)
class VAEGRF(VAE):
    """Each channel of the code is a random field whose range and variance are those of the images themselves.

    They are fitted to the training images by exact likelihood, once, before the network is trained; the field of the
    code has the images' variance and an eighth of their range, as it has an eighth of their sites on a side.

    Attributes:
        correlation: of the field: `matern-1/2`, `matern-3/2`, `gaussian`, or `identity`.
        estimate: `exact`, as above; or `joint`, the paper's: range and variance follow the gradient of each batch's
            likelihood while the network is trained.
    """

    name: ClassVar[str] = "vae-grf"

    correlation: str = "matern-3/2"
    estimate: str = "exact"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.periodogram_ = Periodogram.empty(1, 1)
        self.prior_: Prior | None = None
        self.joint_: JointField | None = None
        if self.estimate not in {"exact", "joint"}:
            raise SettingError(f"estimate {self.estimate!r} is not known; give exact or joint")
        if self.correlation not in CORRELATIONS:
            raise SettingError(f"no correlation is called {self.correlation!r}; give one of {', '.join(CORRELATIONS)}")

    def _start(self, grids: list[Grid]) -> None:
        super()._start(grids)
        height, width = grids[0][1:]
        self.periodogram_ = Periodogram.empty(height, width)
        if self.estimate == "joint":
            self.joint_ = JointField(self.correlation, (height, width), STRIDE)

    def _take_in(self, features: Features) -> None:
        super()._take_in(features)
        self.prior_ = None
        images = features[0]
        self.periodogram_.update(images - images.mean((2, 3), keepdim=True))

    def prior_of_images(self) -> Prior:
        """Range in pixels and variance of the training images, each colour centred."""
        if self.joint_ is not None:
            reached = self.joint_.range.item(), self.joint_.variance.item()
            return prior_at(self.periodogram_.finish(), self.periodogram_.width, self.correlation, *reached)
        if self.prior_ is None:
            self.prior_ = fit_prior(self.periodogram_.finish(), self.periodogram_.width, self.correlation)
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

    def tensors(self) -> dict[str, Tensor]:
        joint = {} if self.joint_ is None else self.joint_.state_dict()
        return {
            **super().tensors(),
            "periodogram.count": torch.tensor(self.periodogram_.count),
            "periodogram.total": self.periodogram_.total,
            **{f"joint.{name}": tensor for name, tensor in joint.items()},
        }

    def _restore(self, tensors: Mapping[str, Tensor]) -> None:
        super()._restore(tensors)
        count, total = tensors["periodogram.count"], tensors["periodogram.total"]
        self.periodogram_ = Periodogram(int(count), total, self.grids_[0][2])
        if self.joint_ is not None:
            self.joint_.load_state_dict({name: tensors[f"joint.{name}"] for name in self.joint_.state_dict()})

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
