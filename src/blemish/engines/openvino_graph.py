"""One OpenVINO graph: made from a torch module, kept in a file, compiled when it first runs.

A graph is written to disk and read again before it is compiled, and saving copies that file: what is saved is what ran.
Precision is set to float32: by default OpenVINO takes bfloat16 on processors that have it, and one model would
then give other scores on another machine.
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from blemish.engines.openvino_runtime import FrontEndManager, check_process, openvino
from blemish.errors import ModelError, SettingError, StorageError, is_out_of_memory
from blemish.interrupts import hold
from blemish.storage import Scratch

if TYPE_CHECKING:
    from torch import Tensor, nn

_CONVERTING = threading.Lock()
"""Held while a graph is converted: which warnings are told belongs to the whole process, not to a thread."""


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
        return [sides_of(output)[1:] for output in self.model.outputs]

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
def _space_needed() -> Iterator[None]:
    """Turns an error of writing into a `StorageError` that says where space is needed."""
    try:
        yield
    except (RuntimeError, OSError) as error:
        if is_out_of_memory(error):
            raise
        place = tempfile.gettempdir()
        raise StorageError(f"{place}: no space for the graph; make some, or set TMPDIR to another folder") from error


def sides_of(port: Any) -> tuple[int, ...]:
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
