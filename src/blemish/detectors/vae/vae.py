"""A variational autoencoder trained on good images: an unusual code or reconstruction marks an anomaly.

The maps are those of Gangloff et al. (2023), standardised by position.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from blemish.detectors.detector import Features, Grid
from blemish.detectors.generative import Generative
from blemish.detectors.head import Head
from blemish.detectors.trained import Trained
from blemish.detectors.vae.augmented import CHANGES, Augmented
from blemish.detectors.vae.head import GRADIENTS, MAPS, VAEHead, grid_of, spread
from blemish.detectors.vae.network import STRIDES, FixedField, JointField, Network, Objective, continuous_bernoulli_mean
from blemish.detectors.vae.random_field import RandomField, base
from blemish.errors import SettingError
from blemish.expected import Choice, Kind, Number, Truth, Whole
from blemish.statistics import GridMoments, Statistic

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(kw_only=True)
class VAE(Trained, Generative):
    """The ordinary VAE: its prior is independent standard Gaussians.

    Attributes:
        map: `mad`, how much the code's channels differ at a site (mean absolute deviation), which needs no decoder;
            `sm`, the dissimilarity of image and reconstruction (1 - SSIM); `mad-sm`, the product of both, each scaled
            to [0, 1] by image; `l2`, the squared error. In torch only, and slower: `gradient`, how the loss
            changes with each pixel; `gradient-sm`, the product of `gradient` and `sm`; `projection`, the dissimilarity
            of the image and the reconstruction of its projection on good images.
        standardised: subtract the mean over good images at each position of the map, and divide by the standard
            deviation. The network's padding makes borders differ; without this, the largest value, which is the score,
            is nearly always there. The paper's maps are not standardised.
        beta: weight of the divergence from the prior in the loss, on the paper's scale: both are sums, the likelihood's
            over pixels and colours, the divergence's over sites and channels.
        latent: channels of the code.
        stride: pixels per site of the code, on each side: 8, 16 or 32.
        augment: how training images are changed at random before each step: `none`; `flips`, mirrored; `turns`, also
            turned by up to 45 degrees; `shifts`, turned by up to 2 degrees and shifted by up to 2 % of a side.
        window: side of the window of SSIM, in pixels, odd.
        epochs, batch, drawn, learning_rate, minutes, precision, patience, seed: how it is trained; see
            `training.Schedule`. With a `patience` it is judged by how well `mad` finds spots that are drawn on
            training images.
    """

    name: ClassVar[str] = "vae"
    strides: ClassVar[tuple[int, ...]] = (1,)
    sees_pixels: ClassVar[bool] = True

    allowed: ClassVar[Mapping[str, Kind]] = {
        "map": Choice(*MAPS),
        "standardised": Truth(),
        "beta": Number(0, 1000),
        "latent": Whole(1, 4096),
        "stride": Choice(*STRIDES),
        "augment": Choice("none", *CHANGES),
        "window": Whole(3, 255, odd=True),
    }

    map: str = "mad"
    standardised: bool = True
    beta: float = 1.0
    latent: int = 256
    stride: int = 8
    augment: str = "none"
    window: int = 11
    epochs: int = 4
    drawn: int | None = 1024
    learning_rate: float = 1e-4
    patience: int | None = 3
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.network_: Network | None = None

    def memory(self, grids: list[Grid], images: int, batch: int) -> int:
        # What a step keeps for its gradient: measured, about 340 numbers for each pixel.
        return sum(4 * 340 * self.batch * height * width for _, height, width in grids)

    def empty(self, grids: list[Grid]) -> dict[str, Statistic]:
        if [channels for channels, _, _ in grids] != [3]:
            raise SettingError(f"{self.name} takes images of 3 colours, not features of shapes {grids}")
        _, height, width = grids[0]
        if height % self.stride or width % self.stride:
            raise SettingError(
                f"images of {height}x{width} pixels cannot be encoded to whole sites; "
                f"give a --size that is a multiple of {self.stride}"
            )
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            self.network_ = Network(self.latent, self.stride)
        return {"maps": self.no_maps(grids)}

    def batches(self, features: Features) -> Iterator[tuple[str, Tensor]]:
        return iter(())

    @property
    def needs_gradients(self) -> bool:
        return self.map in GRADIENTS

    @property
    def sees_margins(self) -> bool:
        return self.augment != "none"

    @property
    def network(self) -> Network:
        """The network that is trained. Raises `SettingError` before the first images."""
        if self.network_ is None:
            raise SettingError(f"{self.name} has seen no images yet")
        return self.network_

    def networks(self) -> dict[str, nn.Module]:
        return {"network": self.network}

    @property
    def sites(self) -> tuple[int, int]:
        """Rows and columns of the code."""
        _, height, width = self.grids_[0]
        return height // self.stride, width // self.stride

    def prior(self) -> RandomField:
        """Returns the prior of each channel of the code."""
        return RandomField.from_base(base("identity", 1.0, 1.0, *self.sites))

    def trained_prior(self) -> FixedField | JointField:
        """Returns the prior as a module, whose parameters, if it has any, are trained too."""
        return FixedField(self.prior())

    def objective(self) -> nn.Module:
        """Returns the module to train, from images (B, 3, l, l) between 0 and 1 to the terms of the loss."""
        _, height, width = self.grids_[0]
        augmented = None if self.augment == "none" else Augmented(CHANGES[self.augment], (height, width))
        return Objective(self.network, self.trained_prior(), self.beta, augmented)

    def judged_map(self, features: Features) -> Tensor:
        device = self.network.code.weight.device
        with torch.inference_mode():
            return spread(self.network.encode(features[0].to(device))[0])

    def settle(self, batches: Iterable[Features]) -> None:
        if not self.standardised:
            return
        head = self._head()
        with torch.inference_mode():
            for images in batches:
                self.statistics_["maps"].update(head(tuple(images)).flatten(1)[:, :, None])

    def head(self) -> Head:
        head = self._head()
        maps = self.statistics_["maps"]
        if self.standardised and maps.count > 1:
            mean, variance = maps.finish()
            floor = 0.01 * float(mean.abs().mean()) + 1e-12  # where images hardly differ, do not amplify rounding
            deviation = variance[:, 0].double().sqrt().clamp_min(floor)
            head.standardise(mean.reshape(head.grid), deviation.reshape(head.grid))
        return head

    def _head(self) -> VAEHead:
        network = self.network
        _, height, width = self.grids_[0]
        field = FixedField(self.prior()) if self.needs_gradients else None
        return VAEHead(network, self.map, self.window, (height, width), self.stride, field, self.beta)

    def with_map(self, map: str, *, standardised: bool) -> Self:
        """Returns the detector with another map; call `settle` then, since it has seen no maps of good images yet.

        Raises:
            SettingError: the map is not known.
        """
        other = replace(self, map=map, standardised=standardised)
        other.restore(self.grids_, self.tensors())
        other.statistics_["maps"] = other.no_maps(self.grids_)
        return other

    def no_maps(self, grids: list[Grid]) -> GridMoments:
        """Returns the empty statistic of the maps of images of these shapes."""
        _, height, width = grids[0]
        rows, columns = grid_of(self.map, (height, width), self.stride)
        return GridMoments.empty(rows * columns, 1)

    def reconstruct(self, features: Features) -> Tensor:
        with torch.inference_mode():
            return continuous_bernoulli_mean(self.network.decode(self.network.encode(features[0])[0]))

    def sample(self, count: int, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        codes = self.prior().sample(count * self.latent, generator).float()
        codes = codes.reshape(count, self.latent, *codes.shape[1:])
        with torch.inference_mode():
            return torch.cat([continuous_bernoulli_mean(self.network.decode(code[None])) for code in codes])

    def summary(self) -> dict[str, Any]:
        return {"sites": list(self.sites), "channels": self.latent}
