"""The torch module: a frozen network cut off after the deepest layer that is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from blemish.backbones.layer import Layer, Normalisation
from blemish.backbones.levels import Levels, normalisation_of
from blemish.backbones.names import PUBLISHED_LAYERS, architecture, canonical_name
from blemish.errors import SettingError, WeightsError

AVGPOOL = "avgpool"
"""The name of the layer with the last level's mean."""


class Backbone(nn.Module):
    """A timm network's feature maps from raw pixels; normalisation happens inside.

    Args:
        name: `efficientnet_lite0` … or any timm network that supports `features_only`, also with a tag.
        layers: levels as timm counts them (level l of most networks has stride 2^(l+1), so ResNet's `layer1` is level
            1; those of a transformer are its blocks, from 0), or the mean of levels (`22-28`), or names of modules
            (`layer2`, `blocks.4.0`), or a paper's names (`block7`); or `avgpool`, the mean of the last level over all
            positions, which has one.
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
        self.network, taken = _made(levels, layers, shape)
        self._named = {index: module for index, module in enumerate(taken) if isinstance(module, nn.Module)}
        self._places = {index: places for index, places in enumerate(taken) if isinstance(places, list)}
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
        for index, places in self._places.items():
            found[index] = maps[places[0]] if len(places) == 1 else torch.stack([maps[at] for at in places]).mean(0)
        ordered = [found[index] for index in range(len(self.layers))]
        if self._channels_last:
            ordered = [layer.permute(0, 3, 1, 2) for layer in ordered]
        pairs = zip(self.layers, ordered, strict=True)
        return tuple(layer.mean((2, 3), keepdim=True) if name == AVGPOOL else layer for name, layer in pairs)

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


def _made(
    levels: Levels, layers: Sequence[int | str], shape: tuple[int, int] | None
) -> tuple[nn.Module, list[nn.Module | list[int]]]:
    """Returns the network, and for each layer a module of it or the places of its levels among the maps it gives."""
    import timm  # slow to import, so only here

    chosen = [levels.numbers(len(levels) - 1 if layer == AVGPOOL else layer) for layer in layers]
    every = range(len(levels)) if None in chosen else {level for one in chosen if one is not None for level in one}
    indices = sorted(every)  # a network is cut off after the deepest
    options: dict[str, Any] = {}
    if levels.sized is not None and shape is not None:
        levels.check_shape(*shape)
        options["img_size"] = shape
    network: nn.Module = timm.create_model(
        levels.name, pretrained=False, features_only=True, out_indices=tuple(indices), **options
    )
    published = PUBLISHED_LAYERS.get(architecture(levels.name), {})
    taken: list[nn.Module | list[int]] = []
    for layer, one in zip(layers, chosen, strict=True):
        if one is not None:
            taken.append([indices.index(level) for level in one])
            continue
        try:
            taken.append(network.get_submodule(published.get(str(layer), str(layer))))
        except AttributeError:
            raise SettingError(
                f"{levels.name} has no layer {layer!r}; it has {levels}"
                + (f", or {', '.join(published)}" if published else "")
            ) from None
    return network, taken


def _keep(kept: dict[int, Tensor], index: int) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    """Returns a hook that keeps a module's output under a number."""

    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        kept[index] = output

    return hook
