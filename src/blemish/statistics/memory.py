"""Memory for large tensors."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def uninitialised(*shape: int) -> Tensor:
    """Returns a float32 tensor that is not filled; pages that are never touched take no memory.

    It comes from numpy, which asks the system for huge pages: on Linux their first use is ten times quicker than that
    of torch's own memory.
    """
    return torch.from_numpy(np.empty(shape, np.float32))


def zeros(*shape: int) -> Tensor:
    """Returns a float64 tensor of zeros; pages that are never touched take no memory."""
    return torch.from_numpy(np.zeros(shape))
