"""From the arguments of `fit` to a detector, a geometry, a backbone and its layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from blemish.backbones import PIXELS, architecture, canonical_name
from blemish.errors import SettingError
from blemish.fitting.presets import Preset, find_preset
from blemish.fitting.quality import BALANCED, Quality, find_quality
from blemish.images import Geometry

if TYPE_CHECKING:
    from blemish.detectors import Detector

Layers = Sequence[int | str]


@dataclass(frozen=True)
class Choices:
    """What is to be fitted.

    Attributes:
        detector: empty.
        geometry: how images become the model's input.
        in_proportion: whether its height and width, which are those of a square, are still to be those of as many
            pixels in the images' own proportions.
        backbone: timm's name, with a tag if one was named, or `pixels`.
        layers: of the backbone; `None` for those that the detector takes by default.
        copies: shifted copies of each image, at most, for a detector that gains by them.
    """

    detector: Detector
    geometry: Geometry
    in_proportion: bool
    backbone: str
    layers: Layers | None
    copies: int


def choose(
    detector: str | Detector | None,
    settings: Mapping[str, Any] | None,
    backbone: str | None,
    layers: Layers | None,
    size: int | str | None,
    crop: int | None,
    tile: int | None,
    overlap: int | None,
    preset: str | None,
    quality: str | None,
    weights: bool,
    seed: int,
) -> Choices:
    """Returns what is to be fitted: what was given, else what the preset or the rung of quality has.

    The arguments are those of `fit`; `weights` says whether any were named or may be fetched.

    Raises:
        SettingError: a name or a value is not known, or two of them contradict each other.
    """
    paper = find_preset(preset) if preset else None
    rung = find_quality(BALANCED if quality is None else quality)
    if paper and quality is not None:
        raise SettingError(f"preset {preset} has a backbone and a size of its own; leave out --quality or --preset")
    chosen = _detector(detector, settings or {}, paper, seed)
    if paper and not paper.suits(chosen.name):
        raise SettingError(f"preset {preset} is of {paper.detector}, not of {chosen.name}; leave one of them out")
    name = _backbone(backbone, paper, rung)
    if chosen.sees_pixels:
        if backbone or layers is not None or weights or quality is not None:
            raise SettingError(
                f"{chosen.name} looks at the images themselves; leave out backbone, layers, weights and quality"
            )
        name = PIXELS
    elif layers is None and paper:
        if architecture(paper.backbone) != architecture(name):
            raise SettingError(
                f"preset {preset} names layers of {paper.backbone}, and {name} is another network; name its layers "
                "with --layers"
            )
        layers = paper.layers
    copies = 0 if paper else rung.copies  # no paper makes any
    return Choices(chosen, *_geometry(size, crop, tile, overlap, paper, rung), name, layers, copies)


def _backbone(given: str | None, preset: Preset | None, quality: Quality) -> str:
    """Returns timm's name of the backbone. The preset's architecture without a tag is the preset's weights of it."""
    if given is None:
        return canonical_name(preset.backbone if preset else quality.backbone)
    name = canonical_name(given)
    return canonical_name(preset.backbone) if preset and name == architecture(preset.backbone) else name


def _detector(given: str | Detector | None, settings: Mapping[str, Any], preset: Preset | None, seed: int) -> Detector:
    """Returns the detector given, or makes the one named; `settings` have precedence over the preset's."""
    from blemish.detectors import find_detector, make_detector

    if given is None or isinstance(given, str):
        name = given or (preset.detector if preset else "fre")
        chosen = preset.chosen() if preset and preset.suits(name) else {}
        if "seed" in find_detector(name).setting_names():
            chosen["seed"] = seed
        return make_detector(name, {**chosen, **settings})
    if settings:
        raise SettingError(f"settings were given beside a {given.name} detector that has its own; give one of them")
    if given.count:
        raise SettingError(f"this {given.name} detector was fitted already; give a new one")
    return given


def _geometry(
    size: int | str | None,
    crop: int | None,
    tile: int | None,
    overlap: int | None,
    preset: Preset | None,
    quality: Quality,
) -> tuple[Geometry, bool]:
    """Returns the geometry, and whether it is still to be brought to the images' own proportions.

    It is if the size is one number. A paper's size, and a size before a crop, are those of a square. A preset's crop is
    used only with the preset's size.
    """
    if crop is None and preset and size is None and not tile:
        crop = preset.crop
    is_area = preset is None if size is None else "x" not in str(size).lower()
    if size is None:
        size = tile or (preset.size if preset else quality.size)
    return Geometry.parse(size, crop, tile, overlap), is_area and crop is None and tile is None
