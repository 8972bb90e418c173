"""Surveys components over many images: their values, where these are large, and how well each finds defects.

It takes one pass, in memory that does not grow with the images. Values are counted in cells a 256th of an octave wide,
so a percentile is exact to 0.4 % and a pixel AUROC to 0.001, usually to 0.0001.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blemish.datasets import Sample, read_truth
from blemish.detectors import ComponentsHead, Gaussian
from blemish.detectors.scoring import resizing_matrix
from blemish.engines import BATCH
from blemish.errors import ImageError, SettingError, SourceError
from blemish.images import Geometry, Pixels, decode_ahead, read_image, waiting
from blemish.metrics import PixelTally, RankCounts, auroc
from blemish.model import Model
from blemish.progress import Progress

Floats = NDArray[np.float64]

CELLS = 32 * 256
LOWEST = 2.0**-16
"""Values at or below this share one cell; values more than 32 octaves above it share another."""


@dataclass
class Survey:
    """Counts and sums for the K components of a layer, and for the components' sum, which comes last.

    Attributes:
        images: how many images were counted.
        counts: values by cell at the positions of the layer (K + 1, CELLS).
        pixels: good and defective pixels by cell (2, K + 1, CELLS); zero without masks.
        total: sums of the values at each position (K + 1, h, w).
        squares: sums of their squares (K + 1,).
        gradients: sum of the images' gradient magnitude over positions, and of its squares (2,).
        products: sums of the values times the gradient magnitude (K + 1,).
        tally: pixels of the sum's map at the input's size, against the masks.
    """

    images: int
    counts: Floats
    pixels: Floats
    total: Floats
    squares: Floats
    gradients: Floats
    products: Floats
    tally: PixelTally = field(default_factory=PixelTally)

    @classmethod
    def empty(cls, components: int, height: int, width: int) -> Survey:
        """Returns the identity of `merge`."""
        rows = components + 1
        return cls(
            0,
            np.zeros((rows, CELLS)),
            np.zeros((2, rows, CELLS)),
            np.zeros((rows, height, width)),
            np.zeros(rows),
            np.zeros(2),
            np.zeros(rows),
        )

    def update(
        self, maps: Tensor, images: NDArray[np.uint8], masks: Sequence[NDArray[np.bool_]] | None = None
    ) -> Survey:
        """Adds squared components (B, K, h, w), images (B, H, W, 3) and, if known, masks (H, W), in place."""
        maps = torch.cat([maps, maps.sum(1, keepdim=True)], 1)
        grid = (int(maps.shape[2]), int(maps.shape[3]))
        size = (int(images.shape[1]), int(images.shape[2]))
        edges = np.stack([_pooled(_gradient(image), grid) for image in images])  # (B, h, w)
        for values, edge in zip(maps.double(), torch.from_numpy(edges), strict=True):
            self.total += values.numpy()
            self.squares += values.square().sum((1, 2)).numpy()
            self.products += (values * edge).sum((1, 2)).numpy()
        self.gradients += [edges.sum(), np.square(edges).sum()]
        self.counts += _counted(_cells(maps.movedim(1, 0).flatten(1)), CELLS)
        if masks is not None:
            full = [
                torch.from_numpy(resizing_matrix(c, f, "bilinear")).float() for c, f in zip(grid, size, strict=True)
            ]
            for values, mask in zip(maps, masks, strict=True):
                resized = full[0] @ values @ full[1].T
                cells = _cells(resized) + CELLS * torch.from_numpy(mask)
                self.pixels += _counted(cells.flatten(1), 2 * CELLS).reshape(-1, 2, CELLS).swapaxes(0, 1)
                self.tally.update(resized[-1].numpy(), mask)
        self.images += len(images)
        return self

    def merge(self, other: Survey) -> Survey:
        """Returns the survey of both sets of images."""
        return Survey(
            self.images + other.images,
            self.counts + other.counts,
            self.pixels + other.pixels,
            self.total + other.total,
            self.squares + other.squares,
            self.gradients + other.gradients,
            self.products + other.products,
            self.tally.merge(other.tally),
        )

    def percentile(self, share: float = 0.99) -> Floats:
        """Returns the value that this share of positions does not exceed, for each component and the sum (K + 1,)."""
        return np.array([_quantile(counts, share) for counts in self.counts])

    def percentile_together(self, share: float = 0.99) -> float:
        """Returns the percentile of all components' values together."""
        return _quantile(self.counts[:-1].sum(0), share)

    def share_within(self, limit: float) -> Floats:
        """Returns the share of each component's values in cells below the cell of the limit (K + 1,)."""
        cell = int(_cells(torch.tensor(limit)))
        return np.asarray(self.counts[:, :cell].sum(1) / np.maximum(self.counts.sum(1), 1))

    def auroc(self) -> list[float | None]:
        """Returns the pixel AUROC of each component alone, and of the sum."""
        edges = _lower_edges()
        found = []
        for negatives, positives in zip(*self.pixels, strict=True):
            used = np.flatnonzero((negatives > 0) | (positives > 0))
            found.append(auroc(RankCounts(edges[used], negatives[used], positives[used])))
        return found

    def ring(self, *, corners: bool = False) -> Floats:
        """Returns the mean value on the outermost positions, or on the four corners, divided by that inside (K + 1,).

        Raises:
            SettingError: the layer has only outermost positions.
        """
        height, width = self.total.shape[1:]
        if height < 3 or width < 3:
            raise SettingError(f"a layer of {height}x{width} positions has only a border; use a finer layer")
        outside = np.zeros((height, width), bool)
        if corners:
            outside[:: height - 1, :: width - 1] = True
        else:
            outside[:: height - 1], outside[:, :: width - 1] = True, True
        inside = self.total[:, 1:-1, 1:-1].mean((1, 2))
        return np.asarray(self.total[:, outside].mean(1) / np.maximum(inside, 1e-300))

    def frontier(self) -> Floats:
        """Returns Pearson's correlation of the values with the image's gradient magnitude, over positions (K + 1,).

        It is zero if one of the two is constant.
        """
        count = max(self.images * self.total[0].size, 1)
        mean, mean_edge = self.total.sum((1, 2)) / count, self.gradients[0] / count
        variance, variance_edge = self.squares / count - mean**2, self.gradients[1] / count - mean_edge**2
        varies = (variance > 1e-12 * mean**2) & (variance_edge > 1e-12 * mean_edge**2)  # beyond rounding
        covariance = self.products / count - mean * mean_edge
        return np.asarray(np.where(varies, covariance / np.sqrt(np.where(varies, variance * variance_edge, 1)), 0))


def survey(
    model: Model, samples: Sequence[Sample], *, masks: bool = False, progress: Progress | None = None
) -> list[Survey]:
    """Returns a survey of a `gaussian` model's components for each layer; unreadable images are left out.

    Args:
        model: fitted.
        samples: images; one without a mask has no defect.
        masks: compare components with the masks.
        progress: called with the stage, and how many images of how many are done.

    Raises:
        SettingError: the detector has no components that all positions share.
        SourceError: there are no images.
        ImageError: a mask is unreadable or of another size than its image.
    """
    gaussian(model)
    if model.recipe.geometry.tile is not None:
        raise SettingError(
            "components are surveyed over whole images, not tiles; `blemish explain MODEL IMAGE` shows one"
        )
    if not samples:
        raise SourceError("there are no images to survey; give a source that has some")
    found: list[Survey] = []
    done = 0
    for chosen, images in _batches(samples, model.recipe.geometry):
        truth = [read_truth(sample, model.recipe.geometry) for sample in chosen] if masks else None
        parts = squared_components(model, images)
        if not found:
            found = [Survey.empty(*part.shape[1:]) for part in parts]
        for layer, part in zip(found, parts, strict=True):
            layer.update(part, images, truth)
        done += len(chosen)
        if progress:
            progress("survey", done, len(samples))
    if not found:
        raise SourceError("none of the images can be read; see `blemish check`")
    return found


def gaussian(model: Model) -> Gaussian:
    """Returns the model's detector. Raises `SettingError` if it is not `gaussian`."""
    if not isinstance(model.learned.detector, Gaussian):
        raise SettingError(
            f"this needs the components of detector gaussian, but the model's detector is {model.recipe.detector}; "
            "`blemish explain MODEL IMAGE` works with it"
        )
    return model.learned.detector


def squared_components(model: Model, images: NDArray[np.uint8]) -> list[Tensor]:
    """Returns the squared whitened components (B, K, h, w) of images (B, H, W, 3), for each layer."""
    head = cast(ComponentsHead, model.scoring.head)  # a `gaussian` model has one
    (arrays,) = model.extractor.run([images])
    with torch.inference_mode():
        return head.components(tuple(torch.from_numpy(array) for array in arrays))


def _batches(samples: Sequence[Sample], geometry: Geometry) -> Iterator[tuple[list[Sample], NDArray[np.uint8]]]:
    paths = [sample.path for sample in samples]
    ahead = waiting(geometry.bytes, 2 * BATCH)
    images = decode_ahead(partial(read_image, geometry=geometry), paths, ahead=ahead)
    batch: list[tuple[Sample, Pixels]] = []
    for sample, image in zip(samples, images, strict=True):
        if isinstance(image, ImageError):
            continue
        batch.append((sample, image))
        if len(batch) == BATCH:
            yield [chosen for chosen, _ in batch], np.stack([pixels for _, pixels in batch])
            batch = []
    if batch:
        yield [chosen for chosen, _ in batch], np.stack([pixels for _, pixels in batch])


def _cells(values: Tensor) -> Tensor:
    """Returns the cell of each value, taken from the exponent and eight bits of the mantissa of its float32."""
    lowest = int(torch.tensor(LOWEST).view(torch.int32)) >> 15
    bits = values.float().contiguous().view(torch.int32) >> 15
    return bits.sub_(lowest).clamp_(0, CELLS - 1)


def _lower_edges() -> Floats:
    """Returns the smallest value of each cell (CELLS,)."""
    lowest = int(torch.tensor(LOWEST).view(torch.int32)) >> 15
    bits = (torch.arange(CELLS, dtype=torch.int32) + lowest) << 15
    return np.asarray(bits.view(torch.float32).double().numpy())


def _counted(cells: Tensor, count: int) -> Floats:
    """Returns how often each of `count` cells is in each row of (K, n), (K, count)."""
    return np.stack([np.bincount(row, minlength=count) for row in cells.numpy()]).astype(np.float64)


def _quantile(counts: Floats, share: float) -> float:
    """Returns the middle of the cell that holds the quantile of this share."""
    edges = np.append(_lower_edges(), LOWEST * 2.0**32)
    cell = int(np.searchsorted(np.cumsum(counts), share * counts.sum()))
    return float(edges[cell] + edges[cell + 1]) / 2


def _gradient(image: NDArray[np.uint8]) -> Floats:
    """Returns the gradient magnitude of the grey image by central differences, in grey levels per pixel (H, W)."""
    down, across = np.gradient(image.mean(2))
    return np.asarray(np.hypot(down, across))


def _pooled(values: Floats, grid: Sequence[int]) -> Floats:
    """Returns means of values (H, W) over the cells of a coarser grid; a pixel belongs to the cell of its centre."""
    sums, counts = values, np.ones_like(values)
    for axis, coarse in enumerate(grid):
        size = values.shape[axis]
        starts = np.ceil(np.arange(coarse) * size / coarse - 0.5).astype(int)
        sums = np.add.reduceat(sums, starts, axis)
        counts = np.add.reduceat(counts, starts, axis)
    return np.asarray(sums / counts)
