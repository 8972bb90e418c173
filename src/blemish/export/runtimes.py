"""An export as an engine: only its own runtime runs it, no code of blemish."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from blemish.engines import Arrays
from blemish.errors import ExportError
from blemish.export.formats import INPUT, MAP, SCORE, Format, silence

if TYPE_CHECKING:
    from torch import nn

    from blemish.engines import Engine

Run = Callable[[NDArray[Any]], Sequence[Any]]
"""Takes pixels (B, H, W, 3); returns scores (B,) and maps (B, H, W)."""


class Exported:
    """Runs the graph of an export, opened in the same way as in `predict.py`.

    Args:
        folder: of the export.
        form: its format.

    Raises:
        ExportError: the runtime cannot open it.
    """

    def __init__(self, folder: Path, form: Format) -> None:
        self.name = form.runtime
        self.names: tuple[str, ...] = ()
        self.form = form
        try:
            self._run: Run = _OPENERS[form.runtime](folder / form.file)
        except Exception as error:  # each runtime raises its own
            raise ExportError(f"{form.ran_by} cannot open the written graph ({_reason(error)})") from error

    def run(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[Arrays]:
        """Yields the results of each batch, in order. Raises `ExportError` if the runtime cannot run the graph."""
        for batch in batches:
            pixels = batch.astype(self.form.pixels, copy=False)
            step = self.form.batch or len(batch)
            parts = [pixels[start : start + step] for start in range(0, len(batch), step)]
            try:
                results = [self._run(part) for part in parts]
            except Exception as error:  # each runtime raises its own
                raise ExportError(f"{self.form.ran_by} cannot run the graph ({_reason(error)})") from error
            yield tuple(np.concatenate([np.asarray(part) for part in parts]) for parts in zip(*results, strict=True))

    @property
    def explainer(self) -> Engine:
        return self

    def then(
        self,
        module: nn.Module,
        outputs: Sequence[str] = (),
        further: nn.Module | None = None,
        names: Sequence[str] = (),
    ) -> Engine:
        raise NotImplementedError("an export is whole")

    def save(self, folder: Path, shape: tuple[int, int]) -> None:
        raise NotImplementedError("an export is saved")


def _openvino(file: Path) -> Run:
    from blemish.engines.openvino_runtime import check_process, openvino

    compiled = openvino.Core().compile_model(str(file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    check_process(compiled)

    def run(pixels: NDArray[Any]) -> Sequence[Any]:
        found = compiled(pixels)
        return found[SCORE].copy(), found[MAP].copy()

    return run


def _onnxruntime(file: Path) -> Run:
    silence()
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return lambda pixels: session.run([SCORE, MAP], {INPUT: pixels})


def _torch(file: Path) -> Run:
    import torch

    program = torch.export.load(str(file)).module()

    def run(pixels: NDArray[Any]) -> Sequence[Any]:
        with torch.inference_mode():
            return [result.numpy() for result in program(torch.from_numpy(pixels))]

    return run


_OPENERS: dict[str, Callable[[Path], Run]] = {"openvino": _openvino, "onnxruntime": _onnxruntime, "torch": _torch}


def _reason(error: BaseException) -> str:
    return str(error).strip().split("\n", maxsplit=1)[0] or type(error).__name__
