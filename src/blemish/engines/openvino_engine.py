"""OpenVINO, the default on CPUs: two or more streams at work while the next batch is decoded.

The compiled graph has a fixed batch; a shorter one is filled up and cut again, so an image's score does not depend on
the images beside it. Precision is pinned to float32: left to itself, OpenVINO takes bfloat16 on processors that have
it, and one model would then give other scores on another machine.
"""

from __future__ import annotations

import errno
import logging
import shutil
import tempfile
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino
from numpy.typing import NDArray

from blemish.engines import BATCH, Arrays
from blemish.errors import ModelError

if TYPE_CHECKING:
    from torch import nn


class OpenVINOEngine:
    """A model of OpenVINO's, compiled for throughput on the CPU."""

    name = "openvino"

    def __init__(self, model: openvino.Model) -> None:
        self.model = model
        self.batch, *self.image_shape = (int(side) for side in model.inputs[0].shape)
        self._compiled = openvino.Core().compile_model(
            model, "CPU", {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "f32"}
        )
        self._requests = max(2, int(self._compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")))

    @classmethod
    def from_module(cls, module: nn.Module, height: int, width: int, batch: int = BATCH) -> OpenVINOEngine:
        """`module`: uint8 (batch, height, width, 3) to a tuple of tensors."""
        import torch

        return cls(_converted(module, torch.zeros(batch, height, width, 3, dtype=torch.uint8)))

    def then(self, module: nn.Module) -> OpenVINOEngine:
        """This engine's graph followed by `module`, a function of the tuple of its outputs, as one graph.

        Converting a backbone takes seconds; this way it is converted once, however many modules follow it.
        """
        import torch

        graph = self.model.clone()
        inner = [result.input_value(0) for result in graph.get_results()]
        examples = tuple(torch.zeros([int(side) for side in output.shape]) for output in graph.outputs)
        tail = _converted(module, examples)
        for parameter, value in zip(tail.get_parameters(), inner, strict=True):
            parameter.output(0).replace(value)
        joined = openvino.Model(tail.get_results(), graph.get_parameters(), "blemish")
        joined.validate_nodes_and_infer_types()
        return OpenVINOEngine(joined)

    @classmethod
    def from_file(cls, path: Path) -> OpenVINOEngine:
        """The graph that `save` wrote. Raises `ModelError` if it is none."""
        try:
            return cls(openvino.Core().read_model(path))
        except RuntimeError as error:
            reason = str(error).strip().split("\n", maxsplit=1)[0]
            raise ModelError(f"{path}: OpenVINO cannot read this graph ({reason}); fit the model again") from None

    def save(self, path: Path, outputs: Sequence[str]) -> None:
        """Writes `path` (.xml) and its weights (.bin) beside it, in full precision, under these names of the outputs.

        Raises:
            OSError: it cannot be written.
        """
        self.model.inputs[0].tensor.set_names({"images"})
        for output, name in zip(self.model.outputs, outputs, strict=True):
            output.tensor.set_names({name})
        try:
            openvino.save_model(self.model, path, compress_to_fp16=False)
        except RuntimeError as error:
            raise OSError(errno.ENOSPC, "OpenVINO could not write the graph") from error

    def as_saved(self, outputs: Sequence[str]) -> OpenVINOEngine:
        """This engine as it will be when saved and loaded: a graph that was read compiles to slightly other sums."""
        folder = Path(tempfile.mkdtemp(prefix="blemish-"))
        try:
            self.save(folder / "graph.xml", outputs)
            engine = OpenVINOEngine.from_file(folder / "graph.xml")
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        weakref.finalize(engine, shutil.rmtree, folder, ignore_errors=True)  # the weights are mapped from it till then
        return engine

    def run(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[Arrays]:
        """The graph's outputs for each batch, in order; as many batches are in flight as there are requests."""
        idle: list[Any] = [self._compiled.create_infer_request() for _ in range(self._requests)]
        busy: deque[tuple[Any, int]] = deque()
        try:
            for images in batches:
                if not idle:
                    request, rows = busy.popleft()
                    yield self._collect(request, rows)
                    idle.append(request)
                request = idle.pop()
                request.start_async({0: self._filled(images)})
                busy.append((request, len(images)))
            while busy:
                request, rows = busy.popleft()
                yield self._collect(request, rows)
        finally:
            for request, _ in busy:  # a consumer that stopped early; what runs must end before its buffers go
                request.wait()

    def _collect(self, request: Any, rows: int) -> Arrays:
        request.wait()
        return tuple(np.array(request.get_output_tensor(i).data[:rows]) for i in range(len(self.model.outputs)))

    def _filled(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        missing = self.batch - len(images)
        if missing == 0:
            return images
        return np.concatenate([images, np.zeros((missing, *images.shape[1:]), np.uint8)])


def _converted(module: nn.Module, example: Any) -> openvino.Model:
    """A torch module as OpenVINO's, for inputs of the example's shapes.

    By the frontend itself rather than `openvino.convert_model`, which reports each use to its makers over the network,
    and takes longer.
    """
    import torch
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder

    with torch.no_grad():
        exported = torch.export.export(module.eval(), (example,), strict=False)
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)  # it warns of operators that newer versions of torch no longer have
    try:
        decoder = TorchFXPythonDecoder.from_exported_program(exported)
    finally:
        logging.disable(level)
    frontend = FrontEndManager().load_by_framework("pytorch")
    model = frontend.convert(frontend.load(decoder))
    shapes = [example.shape] if isinstance(example, torch.Tensor) else [tensor.shape for tensor in example]
    model.reshape({index: list(shape) for index, shape in enumerate(shapes)})
    return model
