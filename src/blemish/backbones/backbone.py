"""The torch module: a frozen network cut off after the deepest layer that is asked for."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from blemish.backbones.layer import Layer
from blemish.backbones.names import PUBLISHED_LAYERS, canonical_name
from blemish.errors import SettingError, WeightsError

AVGPOOL = "avgpool"
"""The name of the layer with the last level's mean."""


class Backbone(nn.Module):
    """A timm network's feature maps from raw pixels; normalisation happens inside.

    Args:
        name: `efficientnet_lite0` … or any timm network that supports `features_only`.
        layers: levels as timm counts them (level l of most networks has stride 2^(l+1), so ResNet's `layer1` is level
            1), or names of modules (`layer2`, `blocks.4.0`), or a paper's names (`block7`); or `avgpool`, the mean of
            the last level over all positions, which has one.
        weights: tensors by parameter name; those of the classifier are ignored.

    Raises:
        SettingError: the network or one of its layers does not exist.
        WeightsError: a tensor is absent, has another shape, or is not finite.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, name: str, layers: Sequence[int | str], weights: Mapping[str, Tensor]) -> None:
        import timm  # slow to import, so only here

        super().__init__()
        self.name = canonical_name(name)
        self.layers = tuple(layers)
        published = PUBLISHED_LAYERS.get(self.name, {})
        by_index = all(isinstance(layer, int) for layer in layers)
        levels = _levels(self.name)
        if not layers:
            raise SettingError(f"no layers were given; {self.name} has {_listed(levels)}")
        for layer in layers:
            if isinstance(layer, int) and not 0 <= layer < len(levels):
                raise SettingError(f"{self.name} has no layer {layer}; it has {_listed(levels)}")
        options = {"out_indices": tuple(sorted({int(layer) for layer in layers}))} if by_index else {}
        self.network: nn.Module = timm.create_model(self.name, pretrained=False, features_only=True, **options)
        self._taken: list[int | str] = []
        self._named: dict[str, nn.Module] = {}
        for layer in layers:
            module = published.get(str(layer), str(layer))
            if layer == AVGPOOL:
                self._taken.append(AVGPOOL)
                continue
            if isinstance(layer, int):
                self._taken.append(options["out_indices"].index(layer) if options else layer)
                continue
            try:
                target = self.network.get_submodule(module)
            except AttributeError:
                raise SettingError(
                    f"{self.name} has no layer {layer!r}; it has {_listed(levels)}"
                    + (f", or {', '.join(published)}" if published else "")
                ) from None
            self._named[str(layer)] = target
            self._taken.append(str(layer))
        self._load(weights)
        config = timm.get_pretrained_cfg(self.name)
        self.register_buffer("mean", 255 * torch.tensor(config.mean), persistent=False)
        self.register_buffer("deviation", 255 * torch.tensor(config.std), persistent=False)
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Returns for uint8 images (B, H, W, 3) one map (B, C_l, H_l, W_l) a layer, in the order asked for."""
        normalised = (images.to(self.mean.dtype) - self.mean) / self.deviation
        named: dict[str, Tensor] = {}
        hooks = [module.register_forward_hook(_keep(named, name)) for name, module in self._named.items()]
        try:
            maps = self.network(normalised.permute(0, 3, 1, 2))
        finally:
            for hook in hooks:
                hook.remove()
        if AVGPOOL in self._taken:
            named[AVGPOOL] = maps[-1].mean((2, 3), keepdim=True)
        return tuple(maps[key] if isinstance(key, int) else named[key] for key in self._taken)

    def shapes(self, height: int, width: int) -> tuple[Layer, ...]:
        """Returns the layers' shapes at an input of `height` × `width` pixels.

        Raises:
            SettingError: the network does not take images of that size.
        """
        blank = torch.zeros(1, height, width, 3, dtype=torch.uint8, device=self.mean.device)
        try:
            with torch.inference_mode():
                maps = self(blank)
        except (RuntimeError, AssertionError, ValueError) as error:
            reason = str(error).strip().split("\n", maxsplit=1)[0]
            raise SettingError(f"{self.name} does not take images of {height}x{width} ({reason}); try --size") from None
        return tuple(Layer(str(name), *features.shape[1:]) for name, features in zip(self.layers, maps, strict=True))

    def _load(self, weights: Mapping[str, Tensor]) -> None:
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
                raise WeightsError(
                    f"the weights have {name} of shape {tuple(found.shape)}, {self.name} expects "
                    f"{tuple(tensor.shape)}; are they another network's?"
                )
            if not bool(found.isfinite().all()):
                raise WeightsError(f"the weights have {name} with numbers that are not finite; fetch them again")
            chosen[name] = found
        self.network.load_state_dict(chosen)


def _keep(kept: dict[str, Tensor], name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    """Returns a hook that keeps a module's output under a name."""

    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        kept[name] = output

    return hook


def layers_of_strides(name: str, strides: Sequence[int]) -> tuple[int, ...]:
    """Returns the deepest level of each stride. Raises `SettingError` if the network has no such level."""
    reductions: list[int] = _feature_info(canonical_name(name)).reduction()
    missing = [stride for stride in strides if stride not in reductions]
    if missing:
        raise SettingError(f"{name} has no layer of stride {missing[0]}; name its layers with --layers")
    return tuple(len(reductions) - 1 - reductions[::-1].index(stride) for stride in strides)


def _levels(name: str) -> list[str]:
    names: list[str] = _feature_info(name).module_name()
    return names


def _feature_info(name: str) -> Any:
    """Returns timm's description of a network's levels.

    Raises `SettingError` if timm does not know the network or gives no feature maps of it.
    """
    import timm

    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), 3)
        hint = f"; did you mean {', '.join(near)}?" if near else "; give one of timm's names"
        raise SettingError(f"no backbone is called {name!r}{hint}")
    try:
        with torch.device("meta"):
            network = timm.create_model(name, pretrained=False, features_only=True)
    except (RuntimeError, AttributeError, NotImplementedError, AssertionError):
        raise SettingError(f"backbone {name} gives no feature maps (timm's features_only); take another") from None
    return network.feature_info


def _listed(levels: list[str]) -> str:
    return ", ".join(f"{index} ({module})" for index, module in enumerate(levels))
