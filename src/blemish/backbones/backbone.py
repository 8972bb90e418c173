"""The torch module of a backbone: a frozen network that ends after the deepest layer that is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blemish.backbones.layer import Layer, Normalisation
from blemish.backbones.levels import Levels, Taken, normalisation_of
from blemish.backbones.names import PUBLISHED_LAYERS, architecture, canonical_name
from blemish.errors import SettingError, WeightsError


class Backbone(nn.Module):
    """A timm network's feature maps from raw pixels; normalisation happens inside.

    Args:
        name: `efficientnet_lite0` … or any timm network that supports `features_only`, also with a tag.
        layers: levels as timm counts them (level l of most networks has stride 2^(l+1), so ResNet's `layer1` is level
            1; those of a transformer are its blocks, from 0), or the mean of levels (`22-28`), or names of modules
            (`layer2`, `blocks.4.0`), or a paper's names (`block7`). With `/2` it is averaged over blocks of 2 by 2
            positions (`layer3/2`); `avgpool` is the mean of the last level over all positions, which has one.
        weights: tensors by parameter name; those of the classifier are ignored. Position embeddings must have the
            shape's grid (`positions.resized_positions`).
        shape: H and W of the images, for a transformer; by default the size that its weights were trained at. Other
            networks take any.
        normalisation: of the pixels; by default that of the tag's weights.

    Raises:
        SettingError: the network, its tag or one of its layers does not exist, or it does not take images of the shape.
        WeightsError: a tensor is absent, has another shape, or is not finite.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        name: str,
        layers: Sequence[int | str],
        weights: Mapping[str, Tensor],
        shape: tuple[int, int] | None = None,
        normalisation: Normalisation | None = None,
    ) -> None:
        super().__init__()
        self.name = canonical_name(name)
        self.layers = tuple(layers)
        levels = Levels.of(self.name)
        if not layers:
            raise SettingError(f"no layers were given; {self.name} has {levels}")
        self._taken = [levels.taken(layer) for layer in layers]
        self._levels = _levels(self._taken, len(levels))
        self.network = _made(levels, self._levels, shape)
        self._named = {
            index: _module(self.network, one.source, levels)
            for index, one in enumerate(self._taken)
            if isinstance(one.source, str)
        }
        self._channels_last = str(getattr(self.network, "output_fmt", "NCHW")).endswith("NHWC")
        self._load(weights, levels.sized)
        self.normalisation = normalisation or normalisation_of(self.name)
        self.register_buffer("mean", 255 * torch.tensor(self.normalisation.mean), persistent=False)
        self.register_buffer("deviation", 255 * torch.tensor(self.normalisation.std), persistent=False)
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Returns for uint8 images (B, H, W, 3) one map (B, C_l, H_l, W_l) a layer, in the order asked for."""
        normalised = (images.to(self.mean.dtype) - self.mean) / self.deviation
        found: dict[int, Tensor] = {}
        hooks = [module.register_forward_hook(_keep(found, index)) for index, module in self._named.items()]
        try:
            maps = self.network(normalised.permute(0, 3, 1, 2))
        finally:
            for hook in hooks:
                hook.remove()
        return tuple(self._layer(one, maps, found.get(index)) for index, one in enumerate(self._taken))

    def _layer(self, taken: Taken, maps: Sequence[Tensor], named: Tensor | None) -> Tensor:
        """Returns one layer, from the maps of all levels that are run, or from what its module gave."""
        if named is not None:
            layer = named
        else:
            own = [maps[self._levels.index(level)] for level in taken.source]  # type: ignore[arg-type]
            layer = own[0] if len(own) == 1 else torch.stack(own).mean(0)
        layer = layer.permute(0, 3, 1, 2) if self._channels_last else layer
        if taken.pool == 0:
            return layer.mean((2, 3), keepdim=True)
        return layer if taken.pool == 1 else F.avg_pool2d(layer, taken.pool)

    def shapes(self, height: int, width: int) -> tuple[Layer, ...]:
        """Returns the layers' shapes at an input of `height` × `width` pixels.

        Raises:
            SettingError: the network does not take images of that size, or a module that was named gives no map.
        """
        blank = torch.zeros(1, height, width, 3, dtype=torch.uint8, device=self.mean.device)
        try:
            with torch.inference_mode():
                maps = self(blank)
        except (RuntimeError, AssertionError, ValueError) as error:
            reason = str(error).strip().split("\n", maxsplit=1)[0]
            raise SettingError(f"{self.name} does not take images of {height}x{width} ({reason}); try --size") from None
        for name, features in zip(self.layers, maps, strict=True):
            if features.ndim != 4:
                raise SettingError(f"layer {name!r} of {self.name} gives no feature map; name a level by its number")
        return tuple(Layer(str(name), *features.shape[1:]) for name, features in zip(self.layers, maps, strict=True))

    def _load(self, weights: Mapping[str, Tensor], sized: tuple[int, int] | None) -> None:
        """Takes the weights by name, with dots read as underscores: timm writes `features_0` for `features.0`."""
        given = {name.replace(".", "_"): tensor for name, tensor in weights.items()}
        chosen = {}
        for name, tensor in self.network.state_dict().items():
            plain = name.replace(".", "_")
            found = given.get(plain, given.get(plain.removeprefix("model_")))  # timm wraps transformers as `model`
            if found is None and name.endswith("num_batches_tracked"):
                found = tensor  # absent from some old files, and unused in a frozen network
            if found is None:
                raise WeightsError(f"the weights have no {name}, which {self.name} needs; are they another network's?")
            if found.shape != tensor.shape:
                size = f", or of another size than {sized[0]}x{sized[1]}" if sized else ""
                raise WeightsError(
                    f"the weights have {name} of shape {tuple(found.shape)}, {self.name} expects "
                    f"{tuple(tensor.shape)}; are they another network's{size}?"
                )
            if not bool(found.isfinite().all()):
                raise WeightsError(f"the weights have {name} with numbers that are not finite; fetch them again")
            chosen[name] = found
        self.network.load_state_dict(chosen)


def _levels(taken: Sequence[Taken], count: int) -> list[int]:
    """Returns the levels that a network has to run: those that are taken, or all if a module is named."""
    if any(isinstance(one.source, str) for one in taken):
        return list(range(count))
    return sorted({int(level) for one in taken for level in one.source})


def _made(levels: Levels, run: Sequence[int], shape: tuple[int, int] | None) -> nn.Module:
    """Returns a network that gives the maps of these levels, cut off after the deepest."""
    import timm  # slow to import, so only here

    options: dict[str, Any] = {}
    if levels.sized is not None and shape is not None:
        levels.check_shape(*shape)
        options["img_size"] = shape
    network: nn.Module = timm.create_model(
        levels.name, pretrained=False, features_only=True, out_indices=tuple(run), **options
    )
    return network


def _module(network: nn.Module, name: str, levels: Levels) -> nn.Module:
    published = PUBLISHED_LAYERS.get(architecture(levels.name), {})
    try:
        return network.get_submodule(published.get(name, name))
    except AttributeError:
        more = f", or {', '.join(published)}" if published else ""
        raise SettingError(f"{levels.name} has no layer {name!r}; it has {levels}{more}") from None


def _keep(kept: dict[int, Tensor], index: int) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    """Returns a hook that keeps a module's output under a number."""

    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        kept[index] = output

    return hook
