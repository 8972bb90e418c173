"""The whole model as one torch program: from pixels to score and map, its numbers in single or half precision."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from blemish.errors import ExportError
from blemish.export.formats import Format
from blemish.export.half import halved
from blemish.model import Model

MOST_IMAGES = 4096
"""Images in a batch, at most, if the format has no fixed number."""


class Joined(nn.Module):
    """Backbone and scoring together: from pixels (B, H, W, 3), 0 to 255, to scores (B,) and maps (B, H, W).

    Its tensors are copies, so that none is a view of a larger one. In half precision they are stored as float16 and
    converted to float32 before use, so all is computed in single precision.

    Args:
        model: a model that needs no gradients.
        half: whether numbers are stored in half precision.
    """

    def __init__(self, model: Model, *, half: bool) -> None:
        super().__init__()
        learned = model.learned
        backbone = model.recipe.network(learned.weights)
        chain = nn.Sequential(backbone, learned.scoring).eval().requires_grad_(False)
        self._chain = (chain,)  # in a tuple, so that its tensors do not become parameters of this module
        self._names: dict[str, str] = {}
        for number, (name, tensor) in enumerate([*chain.named_parameters(), *chain.named_buffers()]):
            self._names[name] = f"tensor{number}"
            self.register_buffer(f"tensor{number}", _kept(tensor, half=half))
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        tensors = {name: self.get_buffer(own) for name, own in self._names.items()}
        whole = {name: tensor.float() if tensor.dtype == torch.float16 else tensor for name, tensor in tensors.items()}
        results: tuple[Tensor, ...] = functional_call(self._chain[0], whole, (images,))
        return results


def _kept(tensor: Tensor, *, half: bool) -> Tensor:
    """Returns a copy of a tensor, in half precision if asked for and if it loses little."""
    own = tensor.detach().clone(memory_format=torch.contiguous_format)
    found = halved(own.numpy()) if half else None
    return own if found is None else torch.from_numpy(found)


def trace(model: Model, form: Format, *, half: bool) -> Any:
    """Returns the model as a `torch.export.ExportedProgram`.

    Raises:
        ExportError: torch cannot trace it.
    """
    kind = torch.uint8 if form.pixels == "uint8" else torch.float32
    example = torch.zeros(form.batch or 2, *model.recipe.geometry.shape, 3, dtype=kind)
    batch = None if form.batch else ({0: torch.export.Dim("batch", min=1, max=MOST_IMAGES)},)
    try:
        with quiet(), torch.no_grad():
            return torch.export.export(Joined(model, half=half), (example,), dynamic_shapes=batch, strict=False)
    except Exception as error:  # torch has no base class for what its tracer raises
        reason = str(error).strip().split("\n", maxsplit=1)[0] or type(error).__name__
        raise ExportError(f"torch cannot trace this model for {form.name} ({reason}); try --format openvino") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Silences the warnings and logs of torch's exporters."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
