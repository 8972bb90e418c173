"""What the maps of layers are: the results of a model's graph that follow its score and its map."""

from __future__ import annotations

import re
from dataclasses import dataclass

_NAME = re.compile(r"(layer|factor)([0-9]{1,4}(?:\+[0-9]{1,4})*)")


@dataclass(frozen=True)
class LayerMap:
    """The map of one layer, or of several whose components are mixed.

    Attributes:
        layers: their numbers, from 0.
        adds_up: whether the maps of all layers add up to the image's map; if not, they multiply to it.
    """

    layers: tuple[int, ...]
    adds_up: bool

    def __str__(self) -> str:
        return ("layer" if self.adds_up else "factor") + "+".join(map(str, self.layers))

    @classmethod
    def of(cls, name: str) -> LayerMap:
        """Returns what a map is by the name of the result. Raises `ValueError` if the name is none of these."""
        found = _NAME.fullmatch(name)
        if found is None:
            raise ValueError(f"{name!r} is not the name of a layer's map")
        return cls(tuple(int(layer) for layer in found[2].split("+")), found[1] == "layer")
