"""The papers' settings by name. A preset gives what the other arguments of `fit` do not.

Each group says where in its paper the settings are, and what the paper leaves open. `docs/presets.md` lists all their
values. Weights are named by timm's tags: the papers used torchvision's first ImageNet weights (`tv_in1k`), its only set
until 2022. For EfficientNet-B5 they used those of the package efficientnet-pytorch, which torchvision took over; these
were trained on ImageNet alone, with AutoAugment (`aa_in1k`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from blemish.backbones import PIXELS
from blemish.errors import SettingError
from blemish.fitting.vae_presets import PADIM as PADIM_VAE
from blemish.fitting.vae_presets import SETTINGS as VAE_SETTINGS

Layers = tuple[int | str, ...]


@dataclass(frozen=True)
class Preset:
    """A paper's detector, backbone, layers and geometry, and the settings that differ from the detector's defaults.

    Attributes:
        detector: its name.
        backbone: timm's name, with the tag of the weights; `pixels` for a detector that takes the images themselves.
        layers: of the backbone; none for `pixels`.
        size: side of the square that an image is resized to.
        crop: side of the centre crop; `None` for none.
        settings: of the detector, by name.
        sigma: standard deviation of the Gaussian filter over the map, in pixels of the model's input.
    """

    detector: str
    backbone: str = PIXELS
    layers: Layers = ()
    size: int = 256
    crop: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    sigma: float = 0.0

    def chosen(self) -> dict[str, Any]:
        """Returns the detector's settings, including the `smoothing` that equals `sigma` at the preset's size."""
        from blemish.detectors.scoring import REFERENCE_SIDE

        return {"smoothing": self.sigma * REFERENCE_SIDE / (self.crop or self.size), **self.settings}

    def suits(self, detector: str) -> bool:
        """Whether it is for this detector. Presets for `fre` also suit `fre-ae`, which finds the same subspace."""
        return detector == self.detector or (self.detector, detector) == ("fre", "fre-ae")


_R18, _R50, _WR50 = "resnet18.tv_in1k", "resnet50.tv_in1k", "wide_resnet50_2.tv_in1k"
_VGG16, _B5 = "vgg16.tv_in1k", "tf_efficientnet_b5.aa_in1k"
_FIRST_THREE: Layers = ("layer1", "layer2", "layer3")


def _padim(backbone: str, layers: Layers, reduction: str, dims: int = 100, *, crop: int | None = 224) -> Preset:
    """Returns PaDiM's: resized to 256 and cropped to 224, epsilon 0.01, maps resized bicubically and smoothed with
    sigma 4 (Sec. IV, setup), the image's score the map's maximum (Sec. III-C).
    """
    settings = {"reduction": reduction, "dims": dims, "epsilon": 0.01, "interpolation": "bicubic"}
    return Preset("padim", backbone, layers, 256, crop, settings, sigma=4.0)


# PaDiM, Sec. IV (setup) and V. The images of STC are resized to 256 and not cropped.
_PADIM = {
    "padim-r18-rd100": _padim(_R18, _FIRST_THREE, "random", 100),  # Table II, row 1
    "padim-r18-pca100": _padim(_R18, _FIRST_THREE, "pca", 100),  # Table II, row 2
    "padim-r18-rd200": _padim(_R18, _FIRST_THREE, "random", 200),  # Table II, row 3
    "padim-r18-pca200": _padim(_R18, _FIRST_THREE, "pca", 200),  # Table II, row 4
    "padim-r18": _padim(_R18, _FIRST_THREE, "all"),  # Tables I and II, last row: all 448
    "padim-r18-layer1": _padim(_R18, ("layer1",), "all"),  # Table I, row 1
    "padim-r18-layer2": _padim(_R18, ("layer2",), "all"),  # Table I, row 2
    "padim-r18-layer3": _padim(_R18, ("layer3",), "all"),  # Table I, row 3
    "padim-wr50-rd550": _padim(_WR50, _FIRST_THREE, "random", 550),  # Sec. V-B
    "padim-effb5": _padim(_B5, ("block7", "block20", "block26"), "all"),  # Sec. IV, setup: no Rd in its name
    "padim-r18-rd100-stc": _padim(_R18, _FIRST_THREE, "random", 100, crop=None),  # Sec. IV, setup
    "padim-wr50-rd550-stc": _padim(_WR50, _FIRST_THREE, "random", 550, crop=None),
}


# SPADE with the PaDiM paper's geometry and smoothing (Sec. IV, setup). Of SPADE's own paper are K = 50, the last layer
# pooled for the score, and layers 1 to 3 on the first one's grid for the map. Its K on STC is another.
_SPADE = {
    "spade-wr50": Preset(
        "spade",
        _WR50,
        (*_FIRST_THREE, "layer4"),
        256,
        224,
        {"neighbours": 50, "correspondences": 1, "side": 56, "interpolation": "bicubic"},
        sigma=4.0,
    )
}


def _fre(backbone: str, *layers: int | str, size: int = 256) -> Preset:
    """Returns FRE's: 256 without a crop (Sec. 4), the norm of the residual as the score and its squares as the map
    (Sec. 3.1), eq. 3 for several layers, no smoothing. The share of variance is the published code's, 0.97; the paper
    finds none better from 0.9 on (Sec. 4, "Sensitivity"). The map's interpolation is not stated; it is bilinear.
    """
    settings = {
        "variance": 0.97,
        "power": 1.0,
        "weights": (1.0,) * len(layers),
        "join": "product",
        "interpolation": "bilinear",
    }
    return Preset("fre", backbone, layers, size, settings=settings)


# FRE, Tables 5 to 8: 1L is "a layer in the middle", 3L it and its neighbours. Table 8's best is ResNet-50's layer2. The
# paper does not name those of the other networks: ResNet-18's are the same, VGG16's the last map of each block at the
# same strides. EfficientNet-B5's is stage 6 of 7, which the published code takes.
_FRE = {
    "fre-r18-1l": _fre(_R18, "layer2"),
    "fre-r18-3l": _fre(_R18, *_FIRST_THREE),
    "fre-r50-1l": _fre(_R50, "layer2"),
    "fre-r50-3l": _fre(_R50, *_FIRST_THREE),
    "fre-vgg16-1l": _fre(_VGG16, 3),
    "fre-vgg16-3l": _fre(_VGG16, 2, 3, 4),
    "fre-effb5-1l": _fre(_B5, "blocks.5"),
    "fre-effb5-3l": _fre(_B5, "blocks.4", "blocks.5", "blocks.6"),
    # Tables 1 to 3, detection: the published code's layers, averaged over 2x2 positions, and its sizes.
    "fre-r18-detection": _fre(_R18, "layer3/2"),
    "fre-r50-detection": _fre(_R50, "layer3/2"),
    "fre-effb5-detection": _fre(_B5, "blocks.5/2", size=456),
    "fre-lite0-1l": _fre("efficientnet_lite0", 3),  # not the paper's: the same on a network whose weights are a package
}

# SubspaceAD (Lendering et al., CVPR 2026): FRE with one subspace for all positions, on the mean of blocks 22 to 28 of
# DINOv2's giant with registers. The settings are those of its published code, for all training images ("full shot").
# There, an image's score is the mean of the map's highest hundredth, where this is a power mean; and sigma is 4 in a
# window of 3x3 pixels, which is a filter of standard deviation 0.81.
_SUBSPACEAD = {
    "subspacead-dinov2g": Preset(
        "fre",
        "vit_giant_patch14_reg4_dinov2.lvd142m",
        ("22-28",),
        672,
        settings={"shared": True, "variance": 0.99, "interpolation": "bilinear"},
        sigma=0.81,
    )
}


def _hfr(backbone: str, layers: Layers, weighting: str = "area") -> Preset:
    """Returns HFR's: eq. 9's weighting, bilinear maps smoothed with sigma 4 (Sec. 3.3), the map's maximum as the score
    (eq. 11), blocks 1x1, 3x3, 1x1 (Sec. 4, so `depth` 1), SGD with momentum 0.9, rate 0.4 and weight decay 1e-4.
    The paper gives neither the input's size, nor the decoder's width, the batch or the epochs: they are ours.
    """
    power = None if weighting == "area" else 12.0
    settings = {"weighting": weighting, "power": power, "depth": 1, "learning_rate": 0.4, "interpolation": "bilinear"}
    return Preset("hfr", backbone, layers, sigma=4.0, settings=settings)


_HFR = {
    "hfr-r18": _hfr(_R18, _FIRST_THREE),  # Tables 1 to 4, "Ours (R18)"
    "hfr-wr50": _hfr(_WR50, _FIRST_THREE),  # the same, "Ours (wR50)"
    "hfr-lite0": _hfr("efficientnet_lite0", (1, 2, 3), "equal"),  # not the paper's: for maps, on packaged weights
}


def _mvg(layer: str) -> Preset:
    """Returns that of one Gaussian for a layer, whitened: 224 without a crop, M² resized bilinearly (Sec. III-C), no
    smoothing, all components that float64 can tell. An image's score is not stated: it is the map's maximum.
    """
    return Preset("gaussian", _R18, (layer,), 224, settings={"rtol": "float64", "interpolation": "bilinear"})


# "Visualization for Multivariate Gaussian Anomaly Detection", Sec. III-A: ResNet18_Weights.IMAGENET1K_V1, each layer.
_MVG = {f"mvg-r18-{layer}": _mvg(layer) for layer in ("layer1", "layer2", "layer3", "layer4")}

# VAE-GRF and the ordinary VAE by data set, and the VAE beside PaDiM: their sources are in `vae_presets`.
_VAE = {
    **{name: Preset(kind, settings=settings) for name, (kind, settings) in VAE_SETTINGS.items()},
    "padim-vae": Preset("vae", PIXELS, (), 292, 256, PADIM_VAE),
}

PRESETS: dict[str, Preset] = {**_PADIM, **_SPADE, **_FRE, **_SUBSPACEAD, **_HFR, **_MVG, **_VAE}


def find_preset(name: str) -> Preset:
    """Returns the preset of that name. Raises `SettingError` if there is none."""
    if name not in PRESETS:
        near = get_close_matches(name, PRESETS, 3)
        advice = f"did you mean {' or '.join(near)}?" if near else f"give one of {', '.join(PRESETS)}"
        raise SettingError(f"no preset is called {name!r}; {advice}")
    return PRESETS[name]
