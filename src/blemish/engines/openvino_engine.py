"""OpenVINO, the default on CPUs: one graph for the features, one for what follows from them.

The two are quickest with different batches. A backbone is quickest image by image, one stream on every core, since its
maps then stay in the cache; a detector is quickest with many images at a time on all cores, since its large factors are
then read once for all of them. So every image of a batch runs through the first graph by itself and writes its features
into its rows of the second graph's input; then the second graph runs once. An image's features do not depend on the
other images of the batch.
"""

from __future__ import annotations

import contextlib
import shutil
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from blemish.engines import Arrays
from blemish.engines.openvino_graph import Graph, sides_of
from blemish.engines.openvino_runtime import openvino
from blemish.errors import ModelError, is_out_of_memory
from blemish.storage import Scratch

if TYPE_CHECKING:
    from torch import nn

FEATURES, SCORING = "features", "scoring"
"""Names of the two graphs' files."""

SCORE_AND_MAP = 2
"""The first results of a saved model's second graph, the score and the map, are so many; maps of layers follow."""


class OpenVINOEngine:
    """Runs a graph for features and, if there is one, a second graph on them.

    Args:
        features: uint8 (1, H, W, 3) to one map (1, C_l, H_l, W_l) for each layer.
        scoring: maps (B, C_l, H_l, W_l), any B, to results of B rows.
        count: how many of the results `run` gives, the first ones; the others are not computed. All by default.
    """

    name = "openvino"

    def __init__(self, features: Graph, scoring: Graph | None = None, count: int | None = None) -> None:
        self.features = features
        self.scoring = scoring
        has_more = scoring is not None and count is not None and count < len(scoring.model.outputs)
        self.count = count if has_more else None

    @classmethod
    def from_module(cls, module: nn.Module, height: int, width: int, device: str = "CPU") -> OpenVINOEngine:
        """Returns the engine of a module that takes uint8 (1, height, width, 3) and returns a tuple of tensors."""
        import torch

        image = torch.zeros(1, height, width, 3, dtype=torch.uint8)
        return cls(Graph.from_module(FEATURES, module, (image,), ["images"], device=device))

    @property
    def extractor(self) -> OpenVINOEngine:
        """This engine without its second graph; compiled graphs are shared."""
        return OpenVINOEngine(self.features)

    @property
    def explainer(self) -> OpenVINOEngine:
        """This engine with all results of its second graph."""
        return OpenVINOEngine(self.features, self.scoring)

    @property
    def names(self) -> list[str]:
        """Names of the results that `explainer` gives beyond those of `run`."""
        if self.scoring is None or self.count is None:
            return []
        return [min(port.get_names(), default="") for port in self.scoring.model.outputs[self.count :]]

    def then(
        self,
        module: nn.Module,
        outputs: Sequence[str] = (),
        further: nn.Module | None = None,
        names: Sequence[str] = (),
    ) -> OpenVINOEngine:
        """Returns this engine followed by `module`, which takes the tuple of its maps; `outputs` names the results.

        There is one graph, that of `further` if it is given, of which `run` computes what `module` gives.
        """
        import torch

        examples = [torch.zeros(2, *shape) for shape in self.features.shapes]
        inputs = [f"features{index}" for index in range(len(examples))]
        traced, named = (module, outputs) if further is None else (further, [*outputs, *names])
        scoring = Graph.from_module(
            SCORING, traced, (tuple(examples),), inputs, named, batch=-1, device=self.features.device
        )
        return OpenVINOEngine(self.features, scoring, None if further is None else len(outputs))

    @classmethod
    def from_folder(cls, folder: Path, threads: int | None = None, device: str = "CPU") -> OpenVINOEngine:
        """Returns the engine that `save` wrote, to run on a device, on the processor in so many threads at most.

        Raises:
            ModelError: the files are not its graphs.
        """
        scoring = folder / f"{SCORING}.xml"
        features = Graph(folder / f"{FEATURES}.xml", threads=threads, device=device)
        return cls(
            features, Graph(scoring, threads=threads, device=device) if scoring.exists() else None, SCORE_AND_MAP
        )

    @classmethod
    def from_copy(cls, folder: Path, names: Iterable[str], device: str = "CPU") -> OpenVINOEngine:
        """Returns the engine of the first graph in a folder, from a copy, since the folder may disappear at any moment.

        Raises:
            ModelError: the file is not a graph.
            OSError: a file cannot be read, or there is no space for the copy.
        """
        scratch = Scratch()
        for name in names:
            shutil.copyfile(folder / name, scratch.path / name)
        return cls(Graph(scratch.path / f"{FEATURES}.xml", scratch, device=device))

    def check(self, shape: tuple[int, int], layers: Sequence[tuple[int, ...]]) -> None:
        """Raises `ModelError` unless the graphs fit the model.

        They must take images of this height and width, have these layers (C, H, W), give a score and a map for each
        image, and maps of layers behind them, and hold finite numbers.
        """
        taken = [(str(port.element_type), sides_of(port)) for port in self.features.model.inputs]
        scoring = self.scoring.model if self.scoring is not None else None
        results = [sides_of(port) for port in scoring.outputs] if scoring is not None else []
        joined = [sides_of(port) for port in scoring.inputs] if scoring is not None else []
        if (
            taken != [("<Type: 'uint8_t'>", (1, *shape, 3))]
            or self.features.shapes != [tuple(layer) for layer in layers]
            or joined != [(-1, *layer) for layer in layers]
            or results != [(-1,), *[(-1, *shape)] * max(1, len(results) - 1)]
        ):
            raise ModelError(f"{self.features.path.parent}: its graphs do not fit its model.json; fit the model again")
        for graph in filter(None, (self.features, self.scoring)):
            if not graph.is_finite():
                raise ModelError(f"{graph.path}: holds numbers that are not finite; fit the model again")

    def save(self, folder: Path, shape: tuple[int, int]) -> None:
        """Writes its graphs (.xml) and their weights (.bin) into the folder. Raises `OSError` if it cannot."""
        for graph in filter(None, (self.features, self.scoring)):
            for file in (graph.path, graph.path.with_suffix(".bin")):
                shutil.copyfile(file, folder / file.name)

    def run(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[Arrays]:
        """Yields the results of each batch, in order."""
        if self.scoring is not None:
            self.scoring.compile_beside("LATENCY", self.count)
        for images in batches:
            with _faults_of(self.features):
                features = self._extracted(images)
            if self.scoring is None:
                yield features
                continue
            with _faults_of(self.scoring), self.scoring.requests("LATENCY", self.count) as (request, *_):
                for index, maps in enumerate(features):
                    request.set_input_tensor(index, openvino.Tensor(maps, shared_memory=True))
                request.infer()
                results = tuple(np.array(tensor.data) for tensor in request.output_tensors)
            yield results

    def _extracted(self, images: NDArray[np.uint8]) -> Arrays:
        """Returns the maps of each layer for a batch of images, (B, C_l, H_l, W_l)."""
        arrays = tuple(np.empty((len(images), *shape), np.float32) for shape in self.features.shapes)
        # A single image takes all cores; several share them, each in a stream.
        with self.features.requests("LATENCY" if len(images) == 1 else "THROUGHPUT") as requests:
            idle, busy, failures = list(requests), deque[Any](), list[RuntimeError]()
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
                for request in busy:  # after an error too, nothing may write into these arrays any more
                    try:
                        request.wait()
                    except RuntimeError as error:
                        failures.append(error)
            if failures:
                raise failures[0]
        return arrays


@contextlib.contextmanager
def _faults_of(graph: Graph) -> Iterator[None]:
    """Turns OpenVINO's errors while it runs a graph into `ModelError`."""
    try:
        yield
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise ModelError(
            f"{graph.path}: OpenVINO cannot run this graph; was its file altered? load the model again"
        ) from error
