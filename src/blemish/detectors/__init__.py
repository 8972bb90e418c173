"""Detectors learn what the features of good images are like, and score how far those of a new image are from that.

A detector is a dataclass of keyword-only settings, and names the statistics that it learns. `update(features)` takes in
a batch, one tensor (B, C_l, H_l, W_l) for each layer; `head()` turns what was learned into a torch module that scores.
Learned attributes end in an underscore. `Trained` is the mixin of detectors with networks, `Generative` of those that
can draw images. A detector knows no path and no engine; one that takes pixels gets the images as its only layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from blemish.detectors.detector import Detector, Features
from blemish.detectors.fre import FRE, FREAE
from blemish.detectors.gaussian import Gaussian
from blemish.detectors.generative import Generative
from blemish.detectors.head import ComponentsHead, Head
from blemish.detectors.hfr import HFR
from blemish.detectors.own import check_made, import_own, imported, is_own, place_in_own
from blemish.detectors.padim import PaDiM
from blemish.detectors.spade import SPADE
from blemish.detectors.trained import Trained
from blemish.detectors.vae import VAE, VAEGRF
from blemish.errors import SettingError
from blemish.expected import shown

__all__ = [
    "DETECTORS",
    "FRE",
    "FREAE",
    "HFR",
    "SPADE",
    "VAE",
    "VAEGRF",
    "ComponentsHead",
    "Detector",
    "Features",
    "Gaussian",
    "Generative",
    "Head",
    "PaDiM",
    "Setting",
    "Trained",
    "check_made",
    "find_detector",
    "imported",
    "is_own",
    "make_detector",
    "name_of",
    "place_in_own",
    "settings_of",
]

DETECTORS: dict[str, type[Detector]] = {
    "fre": FRE,
    "fre-ae": FREAE,
    "padim": PaDiM,
    "gaussian": Gaussian,
    "spade": SPADE,
    "hfr": HFR,
    "vae": VAE,
    "vae-grf": VAEGRF,
}


def make_detector(name: str, settings: Mapping[str, Any] | None = None) -> Detector:
    """Returns a new detector by its name. A user's own class, `module:Class`, must be imported already.

    Raises:
        ModelError: it is a user's own class, and its module is not imported.
        SettingError: no detector has this name, it has no such setting, or a value is out of range.
    """
    kind = _named(name)
    known = kind.setting_names()
    for setting in settings or {}:
        if setting not in known:
            raise SettingError(f"{name} has no setting {shown(setting)}; it has {', '.join(known)}")
    try:
        return kind(**(settings or {}))
    except (TypeError, ValueError) as error:
        raise SettingError(f"{name} cannot be set to {shown(dict(settings or {}))}: {error}") from None


@dataclass(frozen=True)
class Setting:
    """One setting of a detector: its name, what it may be, in words, and its default."""

    name: str
    expected: str
    default: Any


def settings_of(name: str) -> list[Setting]:
    """Returns the settings of a detector, in the order of its class. Raises `SettingError` if none has this name."""
    kind = _named(name)
    defaults, kinds = kind().settings(), kind.kinds()
    return [Setting(own, str(kinds.get(own, "any value")), defaults[own]) for own in kind.setting_names()]


def find_detector(name: str) -> type[Detector]:
    """Returns the class of a name that a user gave; for a class of their own, `module:Class`, the module is imported.

    Raises:
        SettingError: no detector has this name, or it cannot be imported.
    """
    return import_own(name) if ":" in name else _named(name)


def name_of(detector: Detector) -> str:
    """Returns the name by which `make_detector` makes such a detector."""
    kind = type(detector)
    own = f"{kind.__module__}:{kind.__qualname__}"
    return next((name for name, known in DETECTORS.items() if known is kind), own)


def _named(name: str) -> type[Detector]:
    if ":" in name:
        return imported(name)
    if name not in DETECTORS:
        raise SettingError(f"no detector is called {shown(name)}; give one of {', '.join(DETECTORS)}, or module:Class")
    return DETECTORS[name]
