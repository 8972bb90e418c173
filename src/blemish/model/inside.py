"""What is inside a model: which images it has learned from, and by which change each of them came."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blemish.engines.stream import Chunk
from blemish.errors import ModelError
from blemish.interrupts import hold

INSIDE = "inside.safetensors"

KINDS = {"digests": np.uint64, "rows": np.uint32, "changes": np.uint32}
"""Fields and their types: 16 bytes an image, 16 MB for a million of them."""


class Arrivals:
    """Counts the rows of features that each image gives while images come.

    Attributes:
        rows: of each image that came whole, by its digest, in order.
    """

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}
        self._counts: Counter[int] = Counter()
        self._digests: dict[int, str] = {}

    def update(self, chunk: Chunk) -> None:
        """Takes in a batch; more rows of its last image may follow in the next batch."""
        self._counts.update(chunk.indices)
        self._digests |= chunk.digests
        self._close({*self._digests} - {*chunk.indices[-1:]})

    def finish(self) -> None:
        """Ends the count: no more rows come."""
        self._close({*self._digests})

    def _close(self, indices: set[int]) -> None:
        for index in sorted(indices):
            self.rows[self._digests.pop(index)] = self._counts.pop(index)


@dataclass(frozen=True, eq=False)
class Inside:
    """The images of a model, in the order in which they came; each is there once.

    Attributes:
        digests: of their pixels (n,), as whole numbers.
        rows: of features that each gave (n,): itself or its tiles, and the shifted copies of these.
        changes: the number of the change by which each came (n,), counted from 0, which is the fit.
    """

    digests: NDArray[np.uint64]
    rows: NDArray[np.uint32]
    changes: NDArray[np.uint32]

    @classmethod
    def of(cls, rows: Mapping[str, int], change: int = 0) -> Inside:
        """Returns the images with these digests, in hexadecimal, and rows, that came by one change."""
        return cls(
            np.fromiter((int(digest, 16) for digest in rows), np.uint64, len(rows)),
            np.fromiter(rows.values(), np.uint32, len(rows)),
            np.full(len(rows), change, np.uint32),
        )

    def __len__(self) -> int:
        return len(self.digests)

    def __contains__(self, digest: object) -> bool:
        return bool(self.places([str(digest)])[0] >= 0)

    def names(self) -> list[str]:
        """Returns the digests in hexadecimal."""
        return [f"{digest:016x}" for digest in self.digests.tolist()]

    def places(self, digests: Iterable[str]) -> NDArray[np.int64]:
        """Returns the place of each image in the order in which they came, by digest; -1 if it is not inside."""
        asked = np.fromiter((int(digest, 16) for digest in digests), np.uint64)
        if not len(self):
            return np.full(len(asked), -1, np.int64)
        found = np.minimum(np.searchsorted(self.digests, asked, sorter=self._sorted), len(self) - 1)
        places = self._sorted[found]
        return np.where(self.digests[places] == asked, places, -1)

    def merge(self, other: Inside, changes: int = 0) -> Inside:
        """Returns the images of both, those of `other` last; `changes` is added to the numbers of its changes."""
        raised = other.changes + np.uint32(changes)
        return Inside(
            np.concatenate([self.digests, other.digests]),
            np.concatenate([self.rows, other.rows]),
            np.concatenate([self.changes, raised]),
        )

    def without(self, places: NDArray[np.int64]) -> Inside:
        """Returns the other images."""
        return Inside(*(np.delete(getattr(self, field.name), places) for field in fields(self)))

    @cached_property
    def _sorted(self) -> NDArray[np.int64]:
        return np.argsort(self.digests, kind="stable")

    def write(self, folder: Path) -> None:
        """Writes the file into a model's folder. Raises `OSError` if it cannot."""
        from safetensors import SafetensorError
        from safetensors.numpy import save_file

        try:
            with hold():  # safetensors would make an error of its own of an interrupt
                save_file({name: getattr(self, name) for name in KINDS}, folder / INSIDE)
        except SafetensorError as error:
            raise OSError(str(error)) from error

    @classmethod
    def read(cls, folder: Path) -> Inside:
        """Returns what is inside the model in a folder.

        Raises:
            ModelError: the file is missing, or does not hold this.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            with hold():  # safetensors would make an error of its own of an interrupt
                found = load_file(folder / INSIDE)
        except (SafetensorError, OSError, ValueError, KeyError) as error:
            raise ModelError(f"{folder / INSIDE}: cannot be read ({error}); copy the whole folder again") from None
        shapes = {array.shape for array in found.values()}
        kinds = {name: array.dtype.type for name, array in found.items()}
        if kinds != KINDS or len(shapes) != 1 or len(shapes.pop()) != 1:
            raise ModelError(f"{folder / INSIDE}: is not a list of images; fit the model again")
        inside = cls(**found)
        if len(inside) > 1 and bool((np.diff(inside.digests[inside._sorted]) == 0).any()):
            raise ModelError(f"{folder / INSIDE}: has an image twice; fit the model again")
        return inside
