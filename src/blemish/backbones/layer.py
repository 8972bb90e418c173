"""The shape of one layer of a backbone."""

from __future__ import annotations

from dataclasses import dataclass


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
