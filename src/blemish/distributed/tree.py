"""Decides which summaries are merged: neighbours in a binary tree, in whatever order they come."""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Pair(NamedTuple, Generic[T]):
    """Two neighbours to be merged, and where their merge belongs."""

    level: int
    place: int
    left: T
    right: T


class Tree(Generic[T]):
    """A binary tree over leaves 0 … n - 1. A node of level l at place p stands for 2^l leaves from p · 2^l.

    At most about log2(n) nodes wait for their neighbours, besides one for each leaf that is late.

    Args:
        leaves: how many there are, at least one.

    Attributes:
        top: the root's level.
        root: the last node, once it is there.
    """

    def __init__(self, leaves: int) -> None:
        self.leaves, self.top = leaves, (leaves - 1).bit_length()
        self.root: T | None = None
        self._waiting: dict[tuple[int, int], T] = {}

    def add(self, level: int, place: int, node: T) -> Pair[T] | None:
        """Takes in a node; returns it with its neighbour if that is there already. Then add their merge as a node."""
        while level < self.top and (place ^ 1) << level >= self.leaves:
            level, place = level + 1, place >> 1  # there is no neighbour
        if level == self.top:
            self.root = node
            return None
        other = self._waiting.pop((level, place ^ 1), None)
        if other is None:
            self._waiting[level, place] = node
            return None
        left, right = (other, node) if place & 1 else (node, other)
        return Pair(level + 1, place >> 1, left, right)

    def below(self, level: int, place: int) -> range:
        """Returns the leaves that a node stands for."""
        return range(place << level, min(self.leaves, (place + 1) << level))
