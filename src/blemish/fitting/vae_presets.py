"""Settings of the VAEs in the papers: VAE-GRF and the ordinary VAE by data set, and the VAE beside PaDiM.

Where the VAE-GRF paper gives no value, that of its published code is used: 1,000 epochs of 1,024 images, Adam at 1e-4,
batches of 16, the last weights, and augmentation on MVTec AD. For a VAE-GRF it names one `beta` that is not 1, and none
for the ordinary VAE.
"""

from __future__ import annotations

from typing import Any

_MAPS: dict[str, Any] = {"standardised": False, "interpolation": "nearest", "patience": None}

_TRAINED: dict[str, Any] = {**_MAPS, "epochs": 1000, "drawn": 1024, "batch": 16, "learning_rate": 1e-4, "latent": 256}

_TEXTURE: dict[str, Any] = {"beta": 1.0, "window": 15, "map": "mad-sm", "augment": "flips"}

_OF_DATA: dict[str, dict[str, Any]] = {
    "leather": _TEXTURE,
    "wood": _TEXTURE,
    "tile": _TEXTURE,
    "carpet": _TEXTURE,
    "grid": _TEXTURE,
    "hazelnut": {**_TEXTURE, "augment": "turns"},
    "livestock": {"beta": 1.0, "window": 11, "map": "mad"},
    "semmacape": {"beta": 1.0, "window": 11, "map": "mad"},
}
"""Settings of both kinds by data set."""

_OF_FIELD: dict[str, dict[str, Any]] = {
    "wood": {"beta": 0.1},
    "tile": {"correlation": "matern-1/2"},
    "livestock": {"beta": 0.1},
}
"""Where a VAE-GRF differs from a Matérn-3/2 prior and from the ordinary VAE of the same data set."""


def _grf(data: str) -> dict[str, Any]:
    field = {"correlation": "matern-3/2", "estimate": "joint"}
    return {**_TRAINED, **_OF_DATA[data], **field, **_OF_FIELD.get(data, {})}


SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"vae-grf-{data}": ("vae-grf", _grf(data)) for data in _OF_DATA},
    **{f"vae-{data}": ("vae", {**_TRAINED, **settings}) for data, settings in _OF_DATA.items()},
}
"""Detector and settings by the preset's name; images are 256×256."""

PADIM: dict[str, Any] = {
    **_MAPS,
    "map": "l2",
    "beta": 1.0,
    "stride": 32,
    "augment": "shifts",
    "epochs": 100,
    "drawn": 10_000,
    "batch": 32,
    "learning_rate": 1e-4,
}
"""The VAE of the PaDiM paper, on images of 292×292 whose centre of 256×256 is seen."""
