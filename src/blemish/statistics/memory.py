"""Memory for what is large."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def uninitialised(*shape: int) -> Tensor:
    """A float32 tensor that is not filled; what is never touched takes no memory.

    From numpy, which asks the system for huge pages: on Linux ten times quicker to touch first than torch's own.
    """
    return torch.from_numpy(np.empty(shape, np.float32))


def zeros(*shape: int) -> Tensor:
    """A float32 tensor of zeros, likewise."""
    return torch.from_numpy(np.zeros(shape, np.float32))
