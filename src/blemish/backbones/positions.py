"""Position embeddings of a transformer: learned for one grid of patches, and resized once for another."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from blemish.errors import WeightsError

NAME = "pos_embed"


def resized_positions(weights: Mapping[str, Tensor], grid: tuple[int, int]) -> dict[str, Tensor]:
    """Returns weights with the position embeddings resized to a grid of patches (rows, columns), as timm does it.

    The given embeddings must be those of a square grid, as in every published file. Tokens of the class and registers
    come first and are not changed. Weights without position embeddings are returned as they are.

    Args:
        weights: of a plain transformer by parameter name; the embeddings are `pos_embed`, (1, tokens, C).
        grid: wanted.

    Raises:
        WeightsError: the embeddings have another form.
    """
    from timm.layers import resample_abs_pos_embed

    found = dict(weights)
    if (given := found.get(NAME)) is None:
        return found
    if given.ndim != 3 or given.shape[:1] != (1,) or not given.shape[1]:
        raise WeightsError(f"the weights have {NAME} of shape {tuple(given.shape)}, expected (1, tokens, channels)")
    tokens = given.shape[1]
    side = math.isqrt(tokens)
    found[NAME] = resample_abs_pos_embed(given, list(grid), [side, side], num_prefix_tokens=tokens - side**2)
    return found
