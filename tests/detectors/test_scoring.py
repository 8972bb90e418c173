from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.nn import functional as F

from blemish.detectors.scoring import resizing_matrix, smoothing_matrix


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("coarse", "full"), [((8, 8), (64, 64)), ((7, 11), (50, 33)), ((16, 16), (16, 16))])
@pytest.mark.parametrize("sigma", [0.0, 0.7, 4.57, 30.0])
def test_a_matrix_on_each_side_equals_resizing_then_filtering(
    interpolation: str, coarse: tuple[int, int], full: tuple[int, int], sigma: float
) -> None:
    values = np.random.default_rng(0).gamma(2, size=coarse)
    resized = F.interpolate(torch.from_numpy(values)[None, None], full, mode=interpolation, align_corners=False)[0, 0]
    wanted = ndimage.gaussian_filter(resized.numpy(), sigma, mode="reflect", truncate=4.0)
    rows, columns = (
        smoothing_matrix(f, sigma) @ resizing_matrix(c, f, interpolation) for c, f in zip(coarse, full, strict=True)
    )
    assert np.abs(rows @ values @ columns.T - wanted).max() < 1e-12


def test_smoothing_keeps_a_constant_map_constant() -> None:
    assert np.allclose(smoothing_matrix(20, 50.0).sum(1), 1)
