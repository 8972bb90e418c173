"""The scoring module, by which everything is scored: features in, scores and maps out.

Resizing and Gaussian smoothing are linear and separable, so both together are one small matrix on each side of the
coarse map. The result equals `torch.nn.functional.interpolate` followed by `scipy.ndimage.gaussian_filter` up to
rounding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from blemish.calibration import EVERY, typical_and_highest
from blemish.detectors.detector import Detector
from blemish.detectors.head import to_grid
from blemish.detectors.own import check_head, is_own
from blemish.errors import DegenerateError
from blemish.maps import LayerMap

if TYPE_CHECKING:
    from blemish.engines import Engine

OUTPUTS = ("score", "map")
"""The names of the first results of the graph in a saved model; those of `LayerMap` follow."""

REFERENCE_SIDE = 224
"""Side of the square input to which a detector's smoothing refers; for others it grows with the root of the pixels."""


class Scoring(nn.Module):
    """Head, resizing and smoothing: from features (B, C_l, H_l, W_l) to scores (B,) and maps (B, H, W).

    Args:
        detector: fitted.
        shape: H and W, the input's.

    Raises:
        DegenerateError: what was learned is not finite.
        SettingError: the head of a user's own detector does not give maps.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, detector: Detector, shape: tuple[int, int]) -> None:
        super().__init__()
        self.head = detector.head()
        if is_own(type(detector)):
            check_head(detector, self.head)
        self.head.enlarge(shape, detector.interpolation)
        sigma = detector.smoothing * math.sqrt(shape[0] * shape[1]) / REFERENCE_SIDE
        rows, columns = (
            smoothing_matrix(full, sigma) @ resizing_matrix(coarse, full, detector.interpolation)
            for coarse, full in zip(self.head.grid, shape, strict=True)
        )
        self.is_full = self.head.grid == shape and sigma == 0
        self.register_buffer("rows", torch.from_numpy(rows).float())
        self.register_buffer("columns", torch.from_numpy(columns.T.copy()).float())
        self.eval().requires_grad_(False)
        for name, tensor in self.state_dict().items():
            if tensor.numel() and not all(bool(end.isfinite()) for end in torch.aminmax(tensor)):  # without a copy
                raise DegenerateError(
                    f"what {detector.name} learned is not finite ({name}); give images that differ, or other settings"
                )

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        coarse = self.head(features)
        full = self.resized(coarse)
        return self.head.score(features, coarse, full), full

    def in_layers(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Returns the results of `forward`, and the map (B, H, W) of each of the head's parts, if there are several."""
        score, full, parts = self._whole(features)
        return score, full, *(self.resized(part) for part in parts)

    @property
    def layer_maps(self) -> list[LayerMap]:
        """What the maps are that `in_layers` gives after score and map."""
        parts = self.head.parts if len(self.head.parts) > 1 else []
        return [LayerMap(part.layers, self.head.adds_up) for part in parts]

    def after(self, extractor: Engine) -> Engine:
        """Returns the engine of the whole model: this module after what extracts features."""
        return extractor.then(self, OUTPUTS, _InLayers(self), [str(layer) for layer in self.layer_maps])

    def _whole(self, features: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Returns scores, maps, and the maps (B, h, w) of several parts on grids of their own; none of a single one."""
        if len(self.head.parts) > 1:
            coarse, parts = self.head.map_and_layers(features)
        else:
            coarse, parts = self.head(features), []
        full = self.resized(coarse)
        return self.head.score(features, coarse, full), full, parts

    def resized(self, maps: Tensor, every: int = 1) -> Tensor:
        """Returns maps (B, ..., h, w) of any grid, resized and smoothed as the head's map is, (B, ..., H, W).

        With `every`, only every so many rows and columns of them.
        """
        grid = self.head.grid
        if maps.shape[-2:] != grid:
            maps = to_grid(maps.flatten(0, -3), grid).reshape(*maps.shape[:-2], *grid)
        rows, columns = self.rows, self.columns
        if every > 1:  # otherwise the graph would have slices that change nothing
            if self.is_full:
                return maps[..., ::every, ::every]
            rows, columns = rows[::every], columns[:, ::every]
        full: Tensor = maps if self.is_full else rows @ maps @ columns
        return full

    def at(self, maps: Tensor, place: tuple[int, int]) -> Tensor:
        """Returns the values of `resized` maps (K, h, w) at one row and column, (K,)."""
        row, column = place
        if maps.shape[1:] != self.head.grid:
            maps = to_grid(maps, self.head.grid)
        found: Tensor = self.rows[row] @ maps @ self.columns[:, column]
        return found

    def arrays(self, features: Sequence[Tensor]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Runs `forward` in torch directly; compiling would take longer than running. Returns arrays."""
        with torch.inference_mode():
            score, full = self(tuple(features))
        return score.numpy(), full.numpy()

    def arrays_to_calibrate(self, features: Sequence[Tensor]) -> tuple[NDArray[np.float32], ...]:
        """Returns what `arrays` does, and a typical and the highest value of each layer's map, (B, L) each.

        L is 0 if there is one part alone.
        """
        with torch.inference_mode():
            score, full, parts = self._whole(tuple(features))
            layers = (self.resized(part, EVERY).numpy() for part in parts)  # one at a time
            return score.numpy(), full.numpy(), *typical_and_highest(layers, len(score))


class _InLayers(nn.Module):
    """Returns what `Scoring.in_layers` does: a graph is made of a module that is called."""

    def __init__(self, scoring: Scoring) -> None:
        super().__init__()
        self.scoring = scoring

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return self.scoring.in_layers(features)


def resizing_matrix(coarse: int, full: int, interpolation: str) -> NDArray[np.float64]:
    """Returns the matrix (full, coarse) that does what `interpolate(..., align_corners=False)` does along one axis."""
    unit = torch.eye(coarse, dtype=torch.float64)[None, None]
    corners = None if interpolation == "nearest" else False
    resized = F.interpolate(unit, size=(full, coarse), mode=interpolation, align_corners=corners)
    return np.asarray(resized[0, 0].numpy())


def smoothing_matrix(size: int, sigma: float) -> NDArray[np.float64]:
    """Returns the matrix (size, size) of a Gaussian filter along one axis, cut off at 4 sigma.

    Beyond the border the values are mirrored, with the edge repeated.
    """
    if sigma == 0:
        return np.eye(size)
    radius = math.floor(4 * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    weights /= weights.sum()
    places = np.arange(size)[:, None] + offsets  # (size, 2 radius + 1)
    mirrored = places % (2 * size)
    mirrored = np.minimum(mirrored, 2 * size - 1 - mirrored)
    matrix = np.zeros((size, size))
    np.add.at(matrix, (np.arange(size)[:, None], mirrored), weights)
    return matrix
