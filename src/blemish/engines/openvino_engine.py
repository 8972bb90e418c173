"""OpenVINO, the default on CPUs: one graph for the features, one for what follows from them.

The two want different batches. A backbone is quickest image by image, a stream on every core, for then its maps stay in
the cache; a detector is quickest with many images at a time on all cores, for then its large factors are read once for
all of them. So every image of a batch goes through the first graph by itself, writes its features into its rows of the
second graph's input, and the second graph runs once. An image's features do not depend on the images beside it.

A graph is written to disk and read again before it is compiled, and saving copies that file: what is saved is what ran.
Precision is pinned to float32: left to itself, OpenVINO takes bfloat16 on processors that have it, and one model would
then give other scores on another machine.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import warnings
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino
from numpy.typing import NDArray

from blemish.engines import Arrays
from blemish.errors import ModelError, is_out_of_memory

if TYPE_CHECKING:
    from torch import Tensor, nn

FEATURES, SCORING = "features", "scoring"
"""Names of the two graphs' files."""


class OpenVINOEngine:
    """The features of images, and what a second graph, if there is one, makes of them.

    Args:
        features: uint8 (1, H, W, 3) to one map (1, C_l, H_l, W_l) a layer.
        scoring: maps (B, C_l, H_l, W_l), any B, to results of B rows.
    """

    name = "openvino"

    def __init__(self, features: Graph, scoring: Graph | None = None) -> None:
        self.features = features
        self.scoring = scoring

    @classmethod
    def from_module(cls, module: nn.Module, height: int, width: int) -> OpenVINOEngine:
        """`module`: uint8 (1, height, width, 3) to a tuple of tensors."""
        import torch

        image = torch.zeros(1, height, width, 3, dtype=torch.uint8)
        return cls(Graph.from_module(FEATURES, module, (image,), ["images"]))

    @property
    def extractor(self) -> OpenVINOEngine:
        """This engine without its second graph; what is compiled is shared."""
        return OpenVINOEngine(self.features)

    def then(self, module: nn.Module, outputs: Sequence[str] = ()) -> OpenVINOEngine:
        """This engine followed by `module`, a function of the tuple of its maps; `outputs` are its results' names."""
        import torch

        examples = [torch.zeros(2, *shape) for shape in self.features.shapes]
        inputs = [f"features{index}" for index in range(len(examples))]
        scoring = Graph.from_module(SCORING, module, (tuple(examples),), inputs, outputs, batch=-1)
        return OpenVINOEngine(self.features, scoring)

    @classmethod
    def from_folder(cls, folder: Path) -> OpenVINOEngine:
        """What `save` wrote, with the second graph if there was one. Raises `ModelError` if it is none."""
        scoring = folder / f"{SCORING}.xml"
        return cls(Graph(folder / f"{FEATURES}.xml"), Graph(scoring) if scoring.exists() else None)

    def save(self, folder: Path) -> None:
        """Writes its graphs (.xml) and their weights (.bin) into the folder. Raises `OSError` if it cannot."""
        for graph in filter(None, (self.features, self.scoring)):
            for file in (graph.path, graph.path.with_suffix(".bin")):
                shutil.copyfile(file, folder / file.name)

    def run(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[Arrays]:
        """The results for each batch, in order."""
        for images in batches:
            features = self._extracted(images)
            if self.scoring is None:
                yield features
                continue
            with self.scoring.requests("LATENCY") as (request, *_):
                for index, maps in enumerate(features):
                    request.set_input_tensor(index, openvino.Tensor(maps, shared_memory=True))
                request.infer()
                results = tuple(np.array(tensor.data) for tensor in request.output_tensors)
            yield results

    def _extracted(self, images: NDArray[np.uint8]) -> Arrays:
        """The maps of each layer for a batch of images, (B, C_l, H_l, W_l)."""
        arrays = tuple(np.empty((len(images), *shape), np.float32) for shape in self.features.shapes)
        # A single image has all cores to itself; several share them, a stream each.
        with self.features.requests("LATENCY" if len(images) == 1 else "THROUGHPUT") as requests:
            idle, busy = list(requests), deque[Any]()
            try:
                for row in range(len(images)):
                    if not idle:
                        busy[0].wait()
                        idle.append(busy.popleft())
                    request = idle.pop()
                    request.set_input_tensor(openvino.Tensor(images[row : row + 1], shared_memory=True))
                    for index, array in enumerate(arrays):
                        request.set_output_tensor(index, openvino.Tensor(array[row : row + 1], shared_memory=True))
                    request.start_async()
                    busy.append(request)
            finally:
                for request in busy:  # whatever happened, nothing may write into these arrays any more
                    request.wait()
        return arrays


class Graph:
    """One of OpenVINO's graphs in a file, compiled when first run: for throughput, or for latency.

    Raises:
        ModelError: the file is no such graph.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._model = openvino.Core().read_model(path)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            reason = str(error).strip().split("\n", maxsplit=1)[0]
            raise ModelError(f"{path}: OpenVINO cannot read this graph ({reason}); fit the model again") from None
        self._compiled: dict[str, Any] = {}
        self._free: dict[str, list[list[Any]]] = {}

    @classmethod
    def from_module(
        cls,
        name: str,
        module: nn.Module,
        example: tuple[Any, ...],
        inputs: Sequence[str],
        outputs: Sequence[str] = (),
        batch: int = 1,
    ) -> Graph:
        """A torch module as a graph for inputs of the example's shapes but for the batch, -1 for any.

        Raises:
            ModelError: there is no space for it in the folder for temporary files.
        """
        model = _converted(module, example, batch)
        for port, port_name in [*zip(model.inputs, inputs, strict=True), *zip(model.outputs, outputs, strict=False)]:
            port.tensor.set_names({port_name})
        folder = Path(tempfile.mkdtemp(prefix="blemish-"))
        try:
            openvino.save_model(model, folder / f"{name}.xml", compress_to_fp16=False)
            graph = cls(folder / f"{name}.xml")
        except BaseException as error:
            shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, (RuntimeError, OSError)) and not is_out_of_memory(error):
                place = tempfile.gettempdir()
                raise ModelError(
                    f"{place}: no space for the graph; make some, or set TMPDIR to another folder"
                ) from error
            raise
        weakref.finalize(graph, shutil.rmtree, folder, ignore_errors=True)  # the weights are mapped from it till then
        return graph

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Of each output, without the batch."""
        return [_without_batch(output) for output in self._model.outputs]

    @contextlib.contextmanager
    def requests(self, hint: str) -> Iterator[list[Any]]:
        """As many requests as should run at once, for the caller alone; they go back for others to use."""
        if hint not in self._compiled:
            options = {"PERFORMANCE_HINT": hint, "INFERENCE_PRECISION_HINT": "f32"}
            self._compiled[hint] = openvino.Core().compile_model(self._model, "CPU", options)
        compiled = self._compiled[hint]
        free = self._free.setdefault(hint, [])
        try:
            requests = free.pop()
        except IndexError:
            count = int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
            if hint == "THROUGHPUT":
                count = max(2, count)  # on one core too, one is handed over while the other runs
            requests = [compiled.create_infer_request() for _ in range(count)]
        yield requests
        free.append(requests)


def _without_batch(port: Any) -> tuple[int, ...]:
    return tuple(side.get_length() for side in list(port.partial_shape)[1:])


def _converted(module: nn.Module, example: tuple[Any, ...], batch: int) -> openvino.Model:
    """A torch module as OpenVINO's.

    By the frontend itself rather than `openvino.convert_model`, which reports each use to its makers over the network.
    Tracing is five times quicker than `torch.export`, the more as a function, which spares a scripted copy of every
    layer; and our graphs have no branches for it to miss.
    """
    import torch
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Python branches on sizes, which are fixed here
        module.eval()
        trace: Any = torch.jit.trace  # torch gives it no types
        traced = trace(lambda inputs: module(inputs), example, check_trace=False, strict=False)
        decoder = TorchScriptPythonDecoder(traced)
    frontend = FrontEndManager().load_by_framework("pytorch")
    loaded = frontend.load(decoder)
    model = frontend.convert(loaded)
    tensors: list[Tensor] = list(example[0]) if isinstance(example[0], tuple) else list(example)
    model.reshape({index: [batch, *tensor.shape[1:]] for index, tensor in enumerate(tensors)})
    return model
