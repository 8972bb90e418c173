"""What timm says about a network before it is made: its tags, its levels, its sizes."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from blemish.backbones.layer import Normalisation
from blemish.backbones.names import architecture, canonical_name
from blemish.errors import SettingError

AVGPOOL = "avgpool"
"""The name of the layer with the last level's mean over all positions."""

MEAN_OF = re.compile(r"(\d{1,9})-(\d{1,9})")
"""A layer `22-28` is the mean of levels 22 to 28."""

POOLED = re.compile(r"(.+)/([1-9]\d?)")
"""A layer `layer3/2` is `layer3`, averaged over blocks of 2 by 2 positions; what fills no block is left out."""


@dataclass(frozen=True)
class Taken:
    """What a layer is made of.

    Attributes:
        source: the levels that it is the mean of, commonly one; or the name of a module that is no level.
        pool: positions along a side of the blocks that it is averaged over: 1 for none, 0 for all positions.
    """

    source: range | str
    pool: int = 1


@dataclass(frozen=True)
class Levels:
    """The levels of a network, from the input on: of a convolutional network's strides, or a transformer's blocks.

    Attributes:
        name: of the network, as timm has it.
        modules: the name of each level's module.
        strides: pixels of the input for each position, along a side.
        channels: of each.
        sized: height and width that the network is made for, if it has to be made for one size.
    """

    name: str
    modules: tuple[str, ...]
    strides: tuple[int, ...]
    channels: tuple[int, ...]
    sized: tuple[int, int] | None

    @classmethod
    @cache
    def of(cls, name: str) -> Levels:
        """Returns the levels of a network.

        Raises:
            SettingError: timm does not know the network or its tag, or gives no feature maps of it.
        """
        import timm

        name = canonical_name(name)
        config = pretrained_config(name)
        try:
            with torch.device("meta"):
                network = timm.create_model(name, pretrained=False, features_only=True)
        except (RuntimeError, AttributeError, NotImplementedError, AssertionError):
            raise SettingError(f"backbone {name} gives no feature maps (timm's features_only); use another") from None
        found = network.feature_info.info
        modules, strides, channels = (
            tuple(level[key] for level in found) for key in ("module", "reduction", "num_chs")
        )
        sized = tuple(config.input_size[1:]) if config.fixed_input_size else None
        return cls(name, modules, strides, channels, sized)

    def __len__(self) -> int:
        return len(self.modules)

    def __str__(self) -> str:
        return ", ".join(f"{index} ({module})" for index, module in enumerate(self.modules))

    @property
    def patch(self) -> int | None:
        """Side of the patches of a plain transformer, whose levels all have one grid; `None` for other networks."""
        return self.strides[0] if len(self) > 1 and len({*self.strides}) == 1 else None

    def deepest(self, strides: Sequence[int]) -> tuple[int, ...]:
        """Returns the deepest level of each stride.

        A plain transformer has one stride. Then as many levels are returned, evenly spaced, with as many blocks before
        the first and after the last as between two of them.

        Raises:
            SettingError: the network has no such level.
        """
        if self.patch is not None:
            return tuple(
                max(0, round(number * len(self) / (len(strides) + 1)) - 1) for number in range(1, len(strides) + 1)
            )
        missing = [stride for stride in strides if stride not in self.strides]
        if missing:
            raise SettingError(f"{self.name} has no layer of stride {missing[0]}; name its layers with --layers")
        return tuple(len(self) - 1 - self.strides[::-1].index(stride) for stride in strides)

    def taken(self, layer: int | str) -> Taken:
        """Returns what a layer is made of, by a level's number or its module, `22-28`, `layer3/2` or `avgpool`.

        Raises:
            SettingError: there is no such level, or those to be averaged have different shapes.
        """
        if layer == AVGPOOL:
            return Taken(self._levels(len(self) - 1, len(self) - 1, layer), 0)
        if isinstance(layer, str) and (found := POOLED.fullmatch(layer)):
            base = int(found[1]) if found[1].isdecimal() else found[1]
            return Taken(self.taken(base).source, int(found[2]))
        if layer in self.modules:
            layer = self.modules.index(str(layer))
        if isinstance(layer, int):
            return Taken(self._levels(layer, layer, layer))
        found = MEAN_OF.fullmatch(layer)
        return Taken(self._levels(int(found[1]), int(found[2]), layer) if found else layer)

    def _levels(self, first: int, last: int, layer: int | str) -> range:
        for level in (first, last):
            if not 0 <= level < len(self):
                raise SettingError(f"{self.name} has no layer {level}; it has {self}")
        levels = range(first, last + 1)
        if not levels or len({(self.strides[level], self.channels[level]) for level in levels}) > 1:
            raise SettingError(
                f"layer {layer} of {self.name} cannot be averaged; give the first and the last of levels of one shape"
            )
        return levels

    def check_shape(self, height: int, width: int) -> None:
        """Raises `SettingError` if a transformer's patches do not fill the input; the message names sizes that fit."""
        if self.patch is None or height % self.patch == width % self.patch == 0:
            return
        below, above = ([max(1, side // self.patch + more) * self.patch for side in (height, width)] for more in (0, 1))
        near = [f"{sides[0]}" if height == width else f"{sides[0]}x{sides[1]}" for sides in (below, above)]
        raise SettingError(
            f"{self.name} takes sides that are multiples of {self.patch}, not {height}x{width}; give a --size (or "
            f"--crop) of {near[0]} or {near[1]}"
        )


def pretrained_config(name: str) -> Any:
    """Returns what timm tells of a network's weights: input size, normalisation, address.

    Raises:
        SettingError: timm does not know the network, or it has no weights of this tag.
    """
    import timm

    plain = architecture(name)
    if not timm.is_model(plain):
        near = difflib.get_close_matches(plain, timm.list_models(), 3)
        hint = f"; did you mean {', '.join(near)}?" if near else "; give one of timm's names"
        raise SettingError(f"no backbone is called {name!r}{hint}")
    try:
        return timm.get_pretrained_cfg(name)
    except RuntimeError:
        tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{plain}.*")]
        raise SettingError(
            f"{plain} has no weights tagged {name.partition('.')[2]!r}; it has {', '.join(tags) or 'none'}"
        ) from None


def normalisation_of(name: str) -> Normalisation:
    """Returns the normalisation of a network's weights, those of its tag."""
    config = pretrained_config(canonical_name(name))
    mean, std = (tuple(float(value) for value in values) for values in (config.mean, config.std))
    return Normalisation(mean, std)  # type: ignore[arg-type]


def layers_of_strides(name: str, strides: Sequence[int]) -> tuple[int, ...]:
    """Returns the levels of a network that a detector takes by default; see `Levels.deepest`."""
    return Levels.of(name).deepest(strides)
