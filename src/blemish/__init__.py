"""Finds what does not belong in images, after seeing only good ones."""

from __future__ import annotations

TYPE_CHECKING = False  # as type checkers know it; importing typing would delay the handling of Ctrl-C
if TYPE_CHECKING:
    from typing import Any

    from blemish.detectors import FRE, FREAE, HFR, VAE, VAEGRF, Gaussian, PaDiM
    from blemish.errors import BlemishError
    from blemish.evaluation import Evaluation, evaluate
    from blemish.evaluation.compare import Comparison, compare
    from blemish.fitting import calibrate, fit, with_map
    from blemish.model import Model, Prediction

    __version__: str

__all__ = [
    "FRE",
    "FREAE",
    "HFR",
    "VAE",
    "VAEGRF",
    "BlemishError",
    "Comparison",
    "Evaluation",
    "Gaussian",
    "Model",
    "PaDiM",
    "Prediction",
    "calibrate",
    "compare",
    "evaluate",
    "fit",
    "load",
    "with_map",
]

# Each name is imported when it is first used: `import blemish` alone loads neither torch nor openvino.
_HOMES = {
    "BlemishError": "errors",
    "Comparison": "evaluation.compare",
    "Evaluation": "evaluation",
    "FRE": "detectors",
    "FREAE": "detectors",
    "Gaussian": "detectors",
    "HFR": "detectors",
    "Model": "model",
    "PaDiM": "detectors",
    "Prediction": "model",
    "VAE": "detectors",
    "VAEGRF": "detectors",
    "calibrate": "fitting",
    "compare": "evaluation.compare",
    "evaluate": "evaluation",
    "fit": "fitting",
    "with_map": "fitting",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("blemish")
    if name not in _HOMES:
        raise AttributeError(f"module 'blemish' has no attribute {name!r}")
    from importlib import import_module

    if _HOMES[name] == "detectors":
        from blemish.errors import require

        require("torch", of=f"blemish.{name}", extra="fit")
    return getattr(import_module(f"blemish.{_HOMES[name]}"), name)


def load(path: str, engine: str = "auto", threads: int | None = None, device: str = "auto") -> Model:
    """Returns the model that `Model.save` wrote; see `Model.load`."""
    from blemish.model import Model

    return Model.load(path, engine, threads, device)
