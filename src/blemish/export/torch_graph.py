"""Writes a model as a program of `torch.export`, without a pickle."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch

from blemish.errors import ExportError
from blemish.export.formats import Format
from blemish.export.joined import quiet, trace
from blemish.model import Model


def write_torch(model: Model, folder: Path, form: Format, *, half: bool) -> int:
    """Writes a .pt2 archive, and returns the bytes of its numbers in single precision.

    The archive is JSON and raw numbers. torch pickles the example that a program was traced with, so it is left out.

    Raises:
        ExportError: torch cannot trace the model, or wrote a pickle after all.
        OSError: it cannot be written.
    """
    program = trace(model, form, half=half).run_decompositions({})  # else unused parts would count as used
    _drop_unused(program)
    program._example_inputs = None
    with quiet():
        try:
            torch.export.save(program, folder / form.file)
        except RuntimeError as error:  # torch raises it for a full disk, too
            raise OSError(f"torch cannot write it: {error}") from error
    if pickled := pickles(folder / form.file):
        raise ExportError(f"torch wrote a pickle into {form.file} ({pickled[0]}); use another version of torch")
    tensors = [*program.state_dict.values(), *program.constants.values()]
    return sum(tensor.numel() * (4 if tensor.is_floating_point() else tensor.element_size()) for tensor in tensors)


def _drop_unused(program: Any) -> None:
    """Removes operations and tensors whose results are not used, such as those of layers beyond the last wanted."""
    graph, specs = program.graph, program.graph_signature.input_specs
    for node in list(graph.nodes):
        if node.target is torch.ops.aten._assert_tensor_metadata.default:
            graph.erase_node(node)
    graph.eliminate_dead_code()
    given = [node for node in graph.nodes if node.op == "placeholder"]
    unused = {spec.target: node for node, spec in zip(given, specs, strict=True) if spec.target and not node.users}
    for target, node in unused.items():
        graph.erase_node(node)
        program.state_dict.pop(target, None)
        program.constants.pop(target, None)
    specs[:] = [spec for spec in specs if spec.target not in unused]
    program.graph_module.recompile()


def pickles(archive: Path) -> list[str]:
    """Returns the names of the files in an archive that `torch.export.load` would unpickle."""
    with zipfile.ZipFile(archive) as file:
        return [
            entry.filename
            for entry in file.infolist()
            if ("sample_inputs/" in entry.filename and entry.file_size)
            or (entry.filename.endswith("config.json") and b'"use_pickle": true' in file.read(entry))
        ]
