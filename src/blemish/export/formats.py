"""The formats of an export: their files, their runtimes, and the packages that write them."""

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
    """Keeps ONNX Runtime from reporting its use to a server. Call it before ONNX Runtime is imported.

    If a program has imported ONNX Runtime before, this has no effect.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"


@dataclass(frozen=True)
class Format:
    """A format of the graph.

    Attributes:
        name: as given by the user.
        file: name of the graph's file.
        runtime: the package that runs it.
        examples: programs that are written beside it.
        modules: needed to write and to check it.
        batch: images that the graph takes at a time; `None` for any number.
        pixels: type of its input.
        title: name in the description.
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
        """Raises `MissingExtraError` if a package is not installed, before any work."""
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
