"""The shape of one layer of a backbone, and how its pixels are normalised."""

from __future__ import annotations

from dataclasses import dataclass

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Layer:
    """One feature map: its name as asked for, and its channels, height and width at the input size in use."""

    name: str
    channels: int
    height: int
    width: int

    @property
    def grid(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        return (self.channels, self.height, self.width)


@dataclass(frozen=True)
class Normalisation:
    """What a backbone's weights were trained with: red, green and blue from 0 to 1, less `mean`, divided by `std`."""

    mean: Colour
    std: Colour
