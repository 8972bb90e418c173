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
        in_proportion: whether the fit still has to change its square into a rectangle with as many pixels and the
            images' own proportions.
        backbone: timm's name, with a tag if one was named, or `pixels`.
        layers: of the backbone; `None` for those that the detector takes by default.
        copies: the largest number of shifted copies of each image, for a detector that gains from them.
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
    """Returns what is to be fitted: what was given, or else what the preset or the quality says.

    The arguments are those of `fit`; `weights` says whether any were named or may be fetched.

    Raises:
        SettingError: a name or a value is not known, or two of them contradict each other.
    """
    paper = find_preset(preset) if preset else None
    level = find_quality(BALANCED if quality is None else quality)
    if paper and quality is not None:
        raise SettingError(f"preset {preset} has a backbone and a size of its own; leave out --quality or --preset")
    chosen = _detector(detector, settings or {}, paper, seed)
    if paper and not paper.suits(chosen.name):
        raise SettingError(f"preset {preset} is for {paper.detector}, not for {chosen.name}; leave one of them out")
    name = _backbone(backbone, paper, level)
    if chosen.sees_pixels:
        if backbone or layers is not None or weights or quality is not None:
            raise SettingError(
                f"{chosen.name} takes the images themselves, not a backbone's features; leave out backbone, layers, "
                "weights and quality"
            )
        name = PIXELS
    elif layers is None and paper:
        if architecture(paper.backbone) != architecture(name):
            raise SettingError(
                f"preset {preset} names layers of {paper.backbone}, and {name} is another network; name its layers "
                "with --layers"
            )
        layers = paper.layers
    copies = 0 if paper else level.copies  # no paper makes any
    return Choices(chosen, *_geometry(size, crop, tile, overlap, paper, level), name, layers, copies)


def _backbone(given: str | None, preset: Preset | None, quality: Quality) -> str:
    """Returns timm's name of the backbone. The preset's architecture without a tag means the preset's weights."""
    if given is None:
        return canonical_name(preset.backbone if preset else quality.backbone)
    name = canonical_name(given)
    return canonical_name(preset.backbone) if preset and name == architecture(preset.backbone) else name


def _detector(given: str | Detector | None, settings: Mapping[str, Any], preset: Preset | None, seed: int) -> Detector:
    """Returns the detector given, or makes the one named; `settings` have precedence over the preset's."""
    from blemish.detectors import Detector, check_made, find_detector, make_detector

    if given is None or isinstance(given, str):
        name = given or (preset.detector if preset else "fre")
        chosen = preset.chosen() if preset and preset.suits(name) else {}
        if "seed" in find_detector(name).setting_names():
            chosen["seed"] = seed
        return check_made(make_detector(name, {**chosen, **settings}))
    if not isinstance(given, Detector):
        raise SettingError(
            f"detector {given!r} is not one; give its name, module:Class for your own, or a new one, such as FRE()"
        )
    check_made(given)
    if settings:
        raise SettingError(
            f"settings were given together with a {given.name} detector, which has its own; give one of them"
        )
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
    """Returns the geometry, and whether it still has to take the images' own proportions.

    It has to if the size is one number. A paper's size is that of a square, and so is a size before a crop. A preset's
    crop is used only with the preset's size.
    """
    if crop is None and preset and size is None and not tile:
        crop = preset.crop
    is_area = preset is None if size is None else "x" not in str(size).lower()
    if size is None:
        size = tile or (preset.size if preset else quality.size)
    return Geometry.parse(size, crop, tile, overlap), is_area and crop is None and tile is None
