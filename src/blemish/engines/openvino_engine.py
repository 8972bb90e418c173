"""OpenVINO, the default on CPUs: one graph for the features, one for what follows from them.

The two are quickest with different batches. A backbone is quickest image by image, one stream on every core, since its
maps then stay in the cache; a detector is quickest with many images at a time on all cores, since its large factors are
then read once for all of them. So every image of a batch runs through the first graph by itself and writes its features
into its rows of the second graph's input; then the second graph runs once. An image's features do not depend on the
other images of the batch.

A graph is written to disk and read again before it is compiled, and saving copies that file: what is saved is what ran.
Precision is set to float32: by default OpenVINO takes bfloat16 on processors that have it, and one model would
then give other scores on another machine.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
import warnings
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from blemish.engines import Arrays
from blemish.engines.openvino_runtime import FrontEndManager, check_process, openvino
from blemish.errors import ModelError, SettingError, StorageError, is_out_of_memory
from blemish.interrupts import hold
from blemish.storage import Scratch

if TYPE_CHECKING:
    from torch import Tensor, nn

FEATURES, SCORING = "features", "scoring"
"""Names of the two graphs' files."""

SCORE_AND_MAP = 2
"""The first results of a saved model's second graph, the score and the map, are so many; maps of layers follow."""

_CONVERTING = threading.Lock()
"""Held while a graph is converted: which warnings are told belongs to the whole process, not to a thread."""


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
        taken = [(str(port.element_type), _sides(port)) for port in self.features.model.inputs]
        scoring = self.scoring.model if self.scoring is not None else None
        results = [_sides(port) for port in scoring.outputs] if scoring is not None else []
        joined = [_sides(port) for port in scoring.inputs] if scoring is not None else []
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


class Graph:
    """An OpenVINO graph in a file; it is compiled when it first runs, for throughput or for latency.

    Args:
        path: the file.
        scratch: the temporary folder that the file is in, if any.
        threads: of the processor that it runs in, at most; by default one for each core.
        device: that it runs on, as OpenVINO names it.

    Raises:
        ModelError: OpenVINO cannot read the file.
    """

    def __init__(
        self, path: Path, scratch: Scratch | None = None, threads: int | None = None, device: str = "CPU"
    ) -> None:
        self.path, self.threads, self.device = path, threads, device
        self._scratch = scratch  # removed with the graph, whose weights are mapped from it
        try:
            # By this frontend alone: by default OpenVINO tries those of other formats on a damaged file.
            frontend = FrontEndManager().load_by_framework("ir")
            self.model = frontend.convert(frontend.load(str(path)))
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            reason = str(error).strip().split("\n", maxsplit=1)[0]
            raise ModelError(f"{path}: OpenVINO cannot read this graph ({reason}); fit the model again") from None
        self._compiling = threading.Lock()
        self._compiled: dict[tuple[str, int | None], Any] = {}
        self._free: defaultdict[tuple[str, int | None], list[list[Any]]] = defaultdict(list)

    @classmethod
    def from_module(
        cls,
        name: str,
        module: nn.Module,
        example: tuple[Any, ...],
        inputs: Sequence[str],
        outputs: Sequence[str] = (),
        batch: int = 1,
        device: str = "CPU",
    ) -> Graph:
        """Returns a torch module as a graph for inputs of the example's shapes; a `batch` of -1 is any.

        Raises:
            StorageError: the folder for temporary files has no space for it.
        """
        with _converted(module, example, batch) as model, _space_needed():
            taken, given = zip(model.inputs, inputs, strict=True), zip(model.outputs, outputs, strict=False)
            for port, port_name in [*taken, *given]:
                port.tensor.set_names({port_name})
            scratch = Scratch()
            openvino.save_model(model, scratch.path / f"{name}.xml", compress_to_fp16=False)
            return cls(scratch.path / f"{name}.xml", scratch, device=device)

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Shapes of the outputs, without the batch."""
        return [_sides(output)[1:] for output in self.model.outputs]

    def is_finite(self) -> bool:
        """Whether all its constants are finite."""
        constants = (node.data for node in self.model.get_ops() if node.get_type_name() == "Constant")
        return all(bool(np.isfinite(values).all()) for values in constants if values.dtype.kind == "f")

    @contextlib.contextmanager
    def requests(self, hint: str, count: int | None = None) -> Iterator[list[Any]]:
        """Yields as many requests as should run at once; only the caller uses them within the context.

        They compute the first `count` results, by default all.
        """
        check_process(self)
        compiled = self._compile(hint, count)
        free = self._free[hint, count]
        try:
            requests = free.pop()
        except IndexError:
            count = int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
            if hint == "THROUGHPUT":
                count = max(2, count)  # even on one core, one request is filled while the other runs
            requests = [compiled.create_infer_request() for _ in range(count)]
        try:
            yield requests
        finally:
            free.append(requests)

    def compile_beside(self, hint: str, count: int | None = None) -> None:
        """Starts to compile the graph for a hint in a new thread, since OpenVINO uses one core to compile one graph.

        An error is raised later, when the graph runs. Nothing starts if the number of threads is limited.
        """
        if self.threads is None and (hint, count) not in self._compiled:
            check_process(self)
            threading.Thread(target=self._compile_quietly, args=(hint, count), name="compile").start()

    def _compile_quietly(self, hint: str, count: int | None) -> None:
        with contextlib.suppress(Exception):  # it will come again
            self._compile(hint, count)

    def _compile(self, hint: str, count: int | None) -> Any:
        """Returns the graph compiled for a hint and so many results; once, by the first thread that asks."""
        with self._compiling:
            if (hint, count) not in self._compiled:
                options: dict[str, Any] = {"PERFORMANCE_HINT": hint}
                if self.device != "NPU":  # which has no float32
                    options["INFERENCE_PRECISION_HINT"] = "f32"
                if self.threads is not None and self.device == "CPU":
                    # Not bound to a core: several workers on one machine would all be bound to the same one.
                    options |= {"INFERENCE_NUM_THREADS": self.threads, "ENABLE_CPU_PINNING": False}
                self._compiled[hint, count] = self._compiled_for(self.first(count), options)
            return self._compiled[hint, count]

    def first(self, count: int | None) -> openvino.Model:
        """Returns the graph with its first `count` results alone, and what they need; `None` is all."""
        if count is None or count >= len(self.model.outputs):
            return self.model
        part = self.model.clone()
        for result in part.get_results()[count:]:
            part.remove_result(result)
        return part

    def _compiled_for(self, model: openvino.Model, options: Mapping[str, Any]) -> Any:
        """Returns a graph compiled. Raises `SettingError` if another device than the processor refuses it."""
        try:
            return openvino.Core().compile_model(model, self.device, options)
        except RuntimeError as error:
            if self.device == "CPU" or is_out_of_memory(error):
                raise
            reason = str(error).strip().split("\n")[-1]
            told = f"OpenVINO cannot run {self.path.stem} on device {self.device.lower().replace('.', ':')} ({reason})"
            raise SettingError(f"{told}; give --device cpu") from error


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


@contextlib.contextmanager
def _space_needed() -> Iterator[None]:
    """Turns an error of writing into a `StorageError` that says where space is needed."""
    try:
        yield
    except (RuntimeError, OSError) as error:
        if is_out_of_memory(error):
            raise
        place = tempfile.gettempdir()
        raise StorageError(f"{place}: no space for the graph; make some, or set TMPDIR to another folder") from error


def _sides(port: Any) -> tuple[int, ...]:
    """Returns the shape of an input or output, -1 for a side of any length. Raises `ModelError` if its rank varies."""
    if port.partial_shape.rank.is_dynamic:
        raise ModelError("a graph has results of no fixed shape; fit the model again")
    return tuple(side.get_length() if side.is_static else -1 for side in port.partial_shape)


@contextlib.contextmanager
def _converted(module: nn.Module, example: tuple[Any, ...], batch: int) -> Iterator[openvino.Model]:
    """Yields a torch module as an OpenVINO model, which shares the module's tensors.

    The frontend is called directly, since `openvino.convert_model` reports each use over the network. Tracing is five
    times quicker than `torch.export`, above all of a function, which needs no scripted copy of every layer; and these
    graphs have no branches that it could miss. torch keeps every traced function for ever, so its graph is emptied
    afterwards: each would hold the module's tensors.
    """
    import torch
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder  # noqa: TID251  # loaded above

    with hold(), _CONVERTING, torch.no_grad(), warnings.catch_warnings():
        for category in (torch.jit.TracerWarning, FutureWarning):  # type: ignore[attr-defined]
            # They warn of branches on sizes, which are fixed here, and that torch advises against tracing.
            warnings.simplefilter("ignore", category=category)
        module.eval()
        trace: Any = torch.jit.trace  # torch gives it no types
        traced = trace(lambda inputs: module(inputs), example, check_trace=False, strict=False)
        decoder = TorchScriptPythonDecoder(traced)
        frontend = FrontEndManager().load_by_framework("pytorch")
        loaded = frontend.load(decoder)
        model = frontend.convert(loaded)
    tensors: list[Tensor] = list(example[0]) if isinstance(example[0], tuple) else list(example)
    model.reshape({index: [batch, *tensor.shape[1:]] for index, tensor in enumerate(tensors)})
    try:
        yield model
    finally:
        graph = traced.graph
        for _ in list(graph.outputs()):
            graph.eraseOutput(0)
        for node in reversed(list(graph.nodes())):
            node.destroy()
