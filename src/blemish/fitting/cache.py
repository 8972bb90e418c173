"""Keeps features from one pass over the images for all epochs: in memory within a budget, else in nameless files.

A file loses its name as soon as it exists, so it disappears with the process, however that ends.
"""

from __future__ import annotations

import math
import tempfile
import weakref
from collections.abc import Sequence
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from blemish.errors import StorageError

Floats = NDArray[np.float32]


class FeatureCache:
    """Rows of feature maps, in the order they came.

    Args:
        budget: bytes that may be held in memory; if there are more, all are written to the folder for temporary files.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._parts: list[list[Floats]] = []
        self._files: list[IO[bytes]] = []
        self._shapes: list[tuple[int, ...]] = []
        self._count = 0
        self._mapped: list[Floats] = []

    def __len__(self) -> int:
        return self._count

    @property
    def in_memory(self) -> bool:
        return not self._files

    def append(self, arrays: Sequence[Floats]) -> FeatureCache:
        """Takes in a batch, (B, C_l, H_l, W_l) for each layer.

        Raises:
            StorageError: the disk is full, or the folder for temporary files cannot be written.
        """
        if not self._shapes:
            self._shapes = [array.shape[1:] for array in arrays]
            self._parts = [[] for _ in arrays]
        self._count += len(arrays[0])
        for part, array in zip(self._parts, arrays, strict=True):
            part.extend(np.array(array, np.float32, order="C"))  # as they are read from disk
        if self._files or 4 * self._count * sum(map(math.prod, self._shapes)) > self.budget:
            self._spill()
        return self

    def rows(self, indices: Sequence[int]) -> list[Floats]:
        """Returns for each layer the rows (B, C_l, H_l, W_l) with these numbers."""
        if self.in_memory:
            return [np.stack([part[index] for index in indices]) for part in self._parts]
        if not self._mapped:
            self._mapped = [
                np.memmap(_any(file), np.float32, "r", shape=(self._count, *shape))
                for file, shape in zip(self._files, self._shapes, strict=True)
            ]
        return [array[list(indices)] for array in self._mapped]

    def _spill(self) -> None:
        """Appends what is in memory to the files."""
        self._mapped = []
        try:
            if not self._files:
                self._files = [tempfile.TemporaryFile(prefix="blemish-") for _ in self._parts]  # noqa: SIM115
                weakref.finalize(self, _close, self._files)
            for file, part in zip(self._files, self._parts, strict=True):
                for row in part:
                    file.write(row.tobytes())
                file.flush()
                part.clear()
        except OSError as error:
            raise StorageError(
                f"{tempfile.gettempdir()}: features cannot be kept there ({error.strerror or error}); "
                "make room, set TMPDIR to another folder, or allow more --memory"
            ) from error


def _close(files: list[IO[bytes]]) -> None:
    for file in files:
        file.close()


def _any(file: IO[bytes]) -> Any:
    return file  # numpy's types want a path, but its code takes a file
