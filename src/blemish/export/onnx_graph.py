"""Writes a model as ONNX: for ONNX Runtime on any system and in browsers, and for TensorRT."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from blemish.errors import ExportError
from blemish.export.formats import INPUT, MAP, SCORE, Format
from blemish.model import Model

OPSET = 18
"""The version of the operators; ONNX Runtime supports it since 1.14, TensorRT since 10."""

TENSORRT = frozenset(
    """Abs Add And ArgMax ArgMin AveragePool BatchNormalization Cast Ceil Clip Concat Constant ConstantOfShape Conv
    ConvTranspose CumSum DepthToSpace Div Dropout Einsum Elu Equal Erf Exp Expand Flatten Floor Gather GatherElements
    GatherND Gemm GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual HardSigmoid HardSwish Identity
    InstanceNormalization LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax LpNormalization MatMul Max
    MaxPool Mean Min Mul Neg Not Or Pad Pow PRelu Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp
    ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize Round Selu Shape Sigmoid
    Sign Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tanh Tile TopK Transpose Trilu
    Unsqueeze Where Xor""".split()  # noqa: SIM905  # ninety lines
)
"""Operators that TensorRT's parser supports (onnx-tensorrt, docs/operators.md), except those of no use here."""

MOST_NEIGHBOURS = 3840
"""The largest k of TopK in TensorRT."""


def write_onnx(model: Model, folder: Path, form: Format, *, half: bool) -> int:
    """Writes the graph, and returns the bytes of its numbers in single precision.

    Beyond 2 GB the numbers are in a second file, `model.onnx.data`.

    Raises:
        ExportError: torch cannot trace the model, or TensorRT does not support a part of the graph.
        OSError: it cannot be written.
    """
    import torch

    from blemish.export.joined import quiet, trace

    program = trace(model, form, half=half)
    with quiet():
        try:
            made: Any = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=[SCORE, MAP],
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            reason = str(error).strip().split("\n", maxsplit=1)[0]
            raise ExportError(f"torch cannot write this model as ONNX ({reason}); try --format openvino") from error
        if form.name == "tensorrt-onnx":
            suit_tensorrt(made.model)
        made.save(folder / form.file)
    numbers = [value.const_value for value in made.model.graph.initializers.values()]
    return sum(array.size * (4 if array.dtype.is_floating_point() else array.dtype.itemsize) for array in numbers)


def suit_tensorrt(model: Any) -> None:
    """Converts indices to 32 bits, in place.

    Raises:
        ExportError: the graph has an operator, a type or a shape that TensorRT does not support.
    """
    import onnx_ir as ir

    graph = model.graph
    for value in [*graph.initializers.values()]:
        uses = [(node.op_type, index) for node, index in value.uses()]
        if value.dtype == ir.DataType.INT64 and uses and all(use == ("Gather", 1) for use in uses):
            value.const_value = ir.tensor(value.const_value.numpy().astype(np.int32), name=value.name)
            value.dtype = ir.DataType.INT32
    if odd := sorted({node.op_type for node in graph} - TENSORRT):
        raise ExportError(f"TensorRT does not support {', '.join(odd)}, which this model needs; give --format onnx")
    for node in graph:
        _check_shapes(node.outputs)
        if node.op_type == "TopK":
            count = node.inputs[1].const_value
            if count is None or int(count.numpy().item()) > MOST_NEIGHBOURS:
                raise ExportError(
                    f"TensorRT finds at most {MOST_NEIGHBOURS} neighbours, and this model needs more; give --format "
                    "onnx, or fit with fewer"
                )


def _check_shapes(values: Iterable[Any]) -> None:
    for value in values:
        if str(value.dtype) == "DOUBLE":
            raise ExportError("TensorRT does not support double precision, which this model needs; give --format onnx")
        if value.shape is not None and not value.shape.is_static():
            raise ExportError(
                f"TensorRT needs fixed shapes, and the shape of {value.name} is not fixed; give --format onnx"
            )
