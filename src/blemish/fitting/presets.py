"""The papers' settings by name. A preset gives what the other arguments of `fit` do not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from blemish.backbones import PIXELS
from blemish.errors import SettingError
from blemish.fitting.vae_presets import PADIM as PADIM_VAE
from blemish.fitting.vae_presets import SETTINGS as VAE_SETTINGS

Layers = tuple[int | str, ...]


@dataclass(frozen=True)
class Preset:
    """Backbone, layers, geometry and detector settings, as a paper gives them."""

    detector: str
    backbone: str
    layers: Layers
    size: int = 256
    crop: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    def suits(self, detector: str) -> bool:
        """Whether it is of this detector. Those of `fre` are also of `fre-ae`, which finds the same subspace."""
        return detector == self.detector or (self.detector, detector) == ("fre", "fre-ae")


def _padim(backbone: str, layers: Layers, **settings: Any) -> Preset:
    return Preset("padim", backbone, layers, 256, 224, settings)


def _fre(backbone: str, *layers: int | str) -> Preset:
    """Returns the paper's FRE. The score is the norm of a layer's residual, or of several layers' geometric mean.

    Maps are resized before they are multiplied (eq. 3); the paper does not say how, the published code takes bilinear.
    """
    settings = {"power": 1.0, "weights": (1.0,) * len(layers), "join": "product", "interpolation": "bilinear"}
    return Preset("fre", backbone, layers, settings=settings)


def _hfr(backbone: str, layers: Layers) -> Preset:
    """Returns the paper's HFR, whose score is the map's largest value."""
    return Preset("hfr", backbone, layers, settings={"power": None})


def _mvg(layer: int | str) -> Preset:
    """Returns the paper's whitened Gaussian of one layer, with all components that float64 can tell."""
    return Preset("gaussian", _R18, (layer,), 224, settings={"rtol": "float64"})


_R18, _WR50, _B5 = "resnet18", "wide_resnet50_2", "tf_efficientnet_b5"
_FIRST_THREE: Layers = ("layer1", "layer2", "layer3")

PRESETS: dict[str, Preset] = {
    "padim-r18-rd100": _padim(_R18, _FIRST_THREE, dims=100),
    "padim-r18-rd200": _padim(_R18, _FIRST_THREE, dims=200),
    "padim-r18-pca100": _padim(_R18, _FIRST_THREE, reduction="pca", dims=100),
    "padim-r18-pca200": _padim(_R18, _FIRST_THREE, reduction="pca", dims=200),
    "padim-r18": _padim(_R18, _FIRST_THREE, reduction="all"),
    "padim-wr50-rd550": _padim(_WR50, _FIRST_THREE, dims=550),
    "padim-effb5": _padim(_B5, ("block7", "block20", "block26"), reduction="all"),
    "fre-lite0-1l": _fre("efficientnet_lite0", 3),
    "fre-r18-1l": _fre(_R18, "layer2"),
    "fre-r18-3l": _fre(_R18, *_FIRST_THREE),
    "fre-r50-1l": _fre("resnet50", "layer2"),
    "fre-r50-3l": _fre("resnet50", *_FIRST_THREE),
    "fre-effb5": _fre(_B5, "block26"),
    "hfr-lite0": Preset("hfr", "efficientnet_lite0", (1, 2, 3), settings={"weighting": "equal"}),
    "hfr-r18": _hfr(_R18, _FIRST_THREE),
    "hfr-wr50": _hfr(_WR50, _FIRST_THREE),
    **{f"mvg-r18-{layer}": _mvg(layer) for layer in (*_FIRST_THREE, "layer4")},
    **{name: Preset(kind, PIXELS, (), settings=settings) for name, (kind, settings) in VAE_SETTINGS.items()},
    "padim-vae": Preset("vae", PIXELS, (), 292, 256, PADIM_VAE),
}


def find_preset(name: str) -> Preset:
    """Returns the preset of that name. Raises `SettingError` if there is none."""
    if name not in PRESETS:
        raise SettingError(f"no preset is called {name!r}; give one of {', '.join(PRESETS)}")
    return PRESETS[name]
