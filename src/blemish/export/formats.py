"""The formats of an export: their files, their runtimes, and what has to be installed to write one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.metadata import version

from blemish.errors import SettingError, require

INPUT, SCORE, MAP = "images", "score", "map"
"""Names of the graph's input and outputs."""

PREDICT, CPP, JAVASCRIPT = "predict.py", "predict.cpp", "predict.mjs"
"""Examples that read an export without blemish."""


def silence() -> None:
    """Keeps ONNX Runtime from reporting its use to a server; to be called before it is imported.

    If a program imported it before, its use was reported already, and nothing can be done here.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"


@dataclass(frozen=True)
class Format:
    """What a graph is written as.

    Attributes:
        name: as it is asked for.
        file: of the graph.
        runtime: the package that runs it.
        examples: programs that are written beside it.
        modules: to be installed, to write and to check it.
        batch: images that it takes at a time; `None` for any number.
        pixels: the type of its input.
        title: for people.
    """

    name: str
    file: str
    runtime: str
    examples: tuple[str, ...]
    modules: tuple[str, ...]
    batch: int | None = None
    pixels: str = "uint8"
    title: str = ""

    def require(self) -> None:
        """Raises `MissingExtraError` if something is not installed, before the work that will need it."""
        silence()
        if "torch" in self.modules:
            require("torch", "timm", of=f"an export to {self.name}", extra="fit,export")
        others = [module for module in self.modules if module != "torch"]
        require(*others, of=f"an export to {self.name}", extra="export")

    @property
    def ran_by(self) -> str:
        """The runtime and its version."""
        return f"{self.runtime} {version(self.runtime)}"


_ONNX = ("torch", "onnx", "onnxscript", "onnxruntime")

FORMATS = {
    known.name: known
    for known in (
        Format("openvino", "model.xml", "openvino", (PREDICT, CPP), (), title="OpenVINO IR"),
        Format("onnx", "model.onnx", "onnxruntime", (PREDICT, CPP, JAVASCRIPT), _ONNX, title="ONNX"),
        Format("torch", "model.pt2", "torch", (PREDICT,), ("torch",), title="torch.export"),
        Format(
            "tensorrt-onnx",
            "model.onnx",
            "onnxruntime",
            (PREDICT, CPP, JAVASCRIPT),
            _ONNX,
            batch=1,
            pixels="float32",
            title="ONNX for TensorRT",
        ),
    )
}
"""All formats by name."""


def format_of(name: str) -> Format:
    """Returns the format of a name. Raises `SettingError` if there is none."""
    if name not in FORMATS:
        raise SettingError(f"no format is called {name!r}; give one of {', '.join(FORMATS)}")
    return FORMATS[name]
