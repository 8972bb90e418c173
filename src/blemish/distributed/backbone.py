"""A backbone as bytes. Every worker makes an engine of it once, so no machine has to download or keep weights."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blemish.engines import Engine
from blemish.model import Recipe
from blemish.storage import Scratch

if TYPE_CHECKING:
    from blemish.engines.extractor import Extractor

THREADS = 1
"""Threads in which a worker computes; there is a worker for each core."""


@dataclass(frozen=True)
class PackedBackbone:
    """A backbone in a form that can be sent to workers.

    Attributes:
        engine: `openvino` or `torch`.
        files: of the graph, or of the weights, by name.
    """

    engine: str
    files: dict[str, bytes]


def pack_backbone(extractor: Extractor, recipe: Recipe) -> PackedBackbone:
    """Returns the extractor's backbone as bytes: OpenVINO's graph, or the weights for torch."""
    if extractor.engine.name == "openvino":
        with Scratch() as scratch:
            extractor.engine.save(scratch.path, recipe.geometry.shape)
            files = {file.name: file.read_bytes() for file in scratch.path.iterdir() if file.suffix in {".xml", ".bin"}}
        return PackedBackbone("openvino", files)
    from safetensors.torch import save

    weights = {name: tensor.cpu().contiguous() for name, tensor in extractor.weights.items()}
    return PackedBackbone("torch", {"weights": save(weights)} if weights else {})


def unpack_backbone(packed: PackedBackbone, recipe: Recipe) -> Engine:
    """Returns the backbone in an engine that computes in `THREADS` threads."""
    if packed.engine == "openvino":
        from blemish.engines.openvino_engine import FEATURES, OpenVINOEngine
        from blemish.engines.openvino_graph import Graph

        scratch = Scratch()
        for name, content in packed.files.items():
            (scratch.path / name).write_bytes(content)
        return OpenVINOEngine(Graph(scratch.path / f"{FEATURES}.xml", scratch, THREADS))
    from safetensors.torch import load

    from blemish.engines.torch_engine import TorchEngine

    weights = packed.files.get("weights")  # the images themselves have none
    return TorchEngine(recipe.network(load(weights) if weights else {}))


def weights_digest(extractor: Extractor) -> str:
    """Returns the SHA-256 of a backbone's weights, by name in order."""
    found = hashlib.sha256()
    for name, tensor in sorted(extractor.weights.items()):
        found.update(f"{name} {tuple(tensor.shape)} ".encode())
        found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()
