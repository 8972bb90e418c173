"""One idea a folder: what is learned of normal features, and how far a new image's features are from it.

A detector is a dataclass of keyword-only settings. `update(features)` takes in a batch, one tensor (B, C_l, H_l, W_l) a
layer; `head()` turns what was learned into a torch module that scores. What is learned ends in an underscore. A
detector knows no path and no engine; those that take pixels get images as their only layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from blemish.detectors.detector import Detector, Features
from blemish.detectors.fre import FRE, FREAE
from blemish.detectors.gaussian import Gaussian
from blemish.detectors.generative import Generative
from blemish.detectors.head import ComponentsHead, Head
from blemish.detectors.hfr import HFR
from blemish.detectors.padim import PaDiM
from blemish.detectors.trained import Trained
from blemish.detectors.vae import VAE, VAEGRF
from blemish.errors import SettingError

__all__ = [
    "DETECTORS",
    "FRE",
    "FREAE",
    "HFR",
    "VAE",
    "VAEGRF",
    "ComponentsHead",
    "Detector",
    "Features",
    "Gaussian",
    "Generative",
    "Head",
    "PaDiM",
    "Trained",
    "make_detector",
]

DETECTORS: dict[str, type[Detector]] = {
    "fre": FRE,
    "fre-ae": FREAE,
    "padim": PaDiM,
    "gaussian": Gaussian,
    "hfr": HFR,
    "vae": VAE,
    "vae-grf": VAEGRF,
}


def make_detector(name: str, settings: Mapping[str, Any] | None = None) -> Detector:
    """The detector of that name.

    Raises:
        SettingError: no detector has the name, no setting of its has one of the names, or a value is out of range.
    """
    if name not in DETECTORS:
        raise SettingError(f"no detector is called {name!r}; give one of {', '.join(DETECTORS)}")
    kind = DETECTORS[name]
    known = kind.setting_names()
    for setting in settings or {}:
        if setting not in known:
            raise SettingError(f"{name} has no setting {setting!r}; it has {', '.join(known)}")
    try:
        return kind(**(settings or {}))
    except (TypeError, ValueError) as error:
        raise SettingError(f"{name} cannot be set to {dict(settings or {})}: {error}") from None
