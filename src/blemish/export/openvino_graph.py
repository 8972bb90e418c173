"""Joins the two graphs of a model and writes them in OpenVINO's format, without torch and timm.

The model itself runs the same graphs, so in single precision the results of each image are the same to the last bit.
"""

from __future__ import annotations

import os
from pathlib import Path

from blemish.engines.openvino_engine import FEATURES, SCORE_AND_MAP, SCORING
from blemish.engines.openvino_graph import Graph
from blemish.engines.openvino_runtime import openvino
from blemish.errors import ExportError
from blemish.export.formats import Format
from blemish.export.half import halved
from blemish.model import Model
from blemish.storage import Scratch


def _halve(model: openvino.Model) -> None:
    """Stores the graph's numbers in half precision, in place; they are converted to float32 before use."""
    for node in model.get_ops():
        if node.get_type_name() == "Constant" and (found := halved(node.data)) is not None:
            half = openvino.opset13.constant(found)
            users = node.output(0).get_target_inputs()
            whole = openvino.opset13.convert(half, "f32").output(0)
            for user in users:
                user.replace_source_output(whole)


def write_openvino(model: Model, folder: Path, form: Format, *, half: bool) -> int:
    """Writes the graph and its weights into a folder, and returns the bytes of its numbers in single precision.

    Raises:
        ExportError: the graphs cannot be joined.
        OSError: they cannot be written.
    """
    with Scratch() as scratch:
        model.engine.save(scratch.path, model.recipe.geometry.shape)
        features = Graph(scratch.path / f"{FEATURES}.xml").model
        scoring = Graph(scratch.path / f"{SCORING}.xml").first(SCORE_AND_MAP)  # without maps of layers
        single = sum(os.path.getsize(scratch.path / f"{name}.bin") for name in (FEATURES, SCORING))
        try:
            features.reshape([-1, *(side.get_length() for side in features.inputs[0].partial_shape[1:])])
        except RuntimeError as error:
            reason = str(error).strip().split("\n", maxsplit=1)[0]
            raise ExportError(f"OpenVINO cannot join this model's graphs ({reason}); try --format onnx") from error
        for taken, given in zip(scoring.inputs, features.outputs, strict=True):
            taken.replace(given.node.input_value(0))
        joined = openvino.Model(scoring.get_results(), features.get_parameters(), "blemish")
        if half:
            _halve(joined)
        try:
            openvino.save_model(joined, folder / form.file, compress_to_fp16=False)
        except RuntimeError as error:  # OpenVINO raises it for a full disk, too
            raise OSError(f"OpenVINO cannot write it: {error}") from error
        del joined, features, scoring  # their weights are mapped from files that are removed now
    return single
