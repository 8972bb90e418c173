"""Presets are the papers' rows: weights, layers, geometry, smoothing, and nothing added."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from blemish.backbones import PIXELS
from blemish.backbones.backbone import Backbone
from blemish.backbones.levels import pretrained_config
from blemish.detectors import DETECTORS, make_detector
from blemish.errors import SettingError, WeightsError
from blemish.fitting.choices import Choices, choose
from blemish.fitting.presets import PRESETS, find_preset
from blemish.fitting.virtual import copies_of_each
from blemish.images import Geometry
from conftest import ROOT

NAMES = ("detector", "settings", "backbone", "layers", "size", "crop", "tile", "overlap", "preset", "quality")


def chosen(**given: Any) -> Choices:
    return choose(**{**dict.fromkeys(NAMES), **given}, weights=False, seed=0)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_taken_as_it_stands_and_makes_no_copies(name: str) -> None:
    preset, found = PRESETS[name], chosen(preset=name)
    settings = found.detector.settings()
    assert {key: settings[key] for key in preset.settings} == preset.settings
    assert found.geometry == Geometry(preset.size, preset.size, preset.crop)
    assert not found.in_proportion
    assert copies_of_each(None, found.copies, found.detector, rows=20) == 0


def test_every_preset_names_layers_of_a_network_and_weights_that_timm_knows() -> None:
    networks = {(preset.backbone, preset.layers) for preset in PRESETS.values() if preset.backbone != PIXELS}
    for backbone, layers in networks:
        assert layers
        assert pretrained_config(backbone).tag or "lite" in backbone
        with torch.device("meta"), pytest.raises(WeightsError, match="the weights have no"):  # so the layers exist
            Backbone(backbone, layers, {})


@pytest.mark.parametrize("name", PRESETS)
def test_the_map_is_smoothed_by_the_papers_pixels_at_the_papers_size(name: str) -> None:
    preset = PRESETS[name]
    smoothing = chosen(preset=name).detector.smoothing
    height, width = Geometry(preset.size, preset.size, preset.crop).shape
    assert smoothing * (height * width) ** 0.5 / 224 == pytest.approx(preset.sigma, abs=1e-12)
    if preset.detector in {"padim", "hfr", "spade"}:
        assert preset.sigma == 4


def test_what_is_smoothed_at_256_pixels_is_smoothed_less_at_128() -> None:
    assert chosen(preset="hfr-r18").detector.smoothing == 3.5
    assert chosen(preset="padim-r18-rd100-stc").detector.smoothing == 3.5
    assert chosen(preset="padim-r18-rd100").detector.smoothing == 4.0
    assert chosen(preset="hfr-r18", settings={"smoothing": 1.0}).detector.smoothing == 1.0
    assert DETECTORS["hfr"]().smoothing == make_detector("hfr").smoothing == 4.0


@pytest.mark.parametrize("backbone", ["resnet18.tv_in1k", "resnet18.a2_in1k", "resnet18", "ResNet18"])
def test_the_presets_network_with_any_weights_has_the_presets_layers(backbone: str) -> None:
    found = chosen(preset="mvg-r18-layer1", backbone=backbone)
    assert found.layers == ("layer1",)
    assert found.backbone == ("resnet18.a2_in1k" if "a2" in backbone else "resnet18.tv_in1k")


def test_another_network_than_the_presets_needs_layers_of_its_own() -> None:
    with pytest.raises(SettingError, match=r"mvg-r18-layer1 names layers of resnet18\.tv_in1k.*resnet34.*--layers"):
        chosen(preset="mvg-r18-layer1", backbone="resnet34")
    assert chosen(preset="mvg-r18-layer1", backbone="resnet34", layers=["layer2"]).layers == ["layer2"]


def test_presets_follow_their_papers() -> None:
    rd100 = PRESETS["padim-r18-rd100"]
    assert (rd100.backbone, rd100.layers) == ("resnet18.tv_in1k", ("layer1", "layer2", "layer3"))
    assert rd100.settings == {"reduction": "random", "dims": 100, "epsilon": 0.01, "interpolation": "bicubic"}
    assert PRESETS["padim-wr50-rd550"].backbone == "wide_resnet50_2.tv_in1k"
    assert PRESETS["padim-effb5"].backbone == "tf_efficientnet_b5.aa_in1k"
    assert PRESETS["padim-r18-rd100-stc"].crop is None
    assert PRESETS["spade-wr50"].settings["neighbours"] == 50
    assert PRESETS["hfr-wr50"].settings["power"] is None
    assert {PRESETS[f"fre-{name}-3l"].size for name in ("r18", "r50", "vgg16", "effb5")} == {256}


def test_a_preset_that_is_not_known_is_refused_with_those_that_are() -> None:
    with pytest.raises(SettingError, match="give one of padim-r18-rd100, .*fre-lite0-1l"):
        find_preset("nope")
    with pytest.raises(SettingError, match=r"did you mean padim-wr50-rd550 or"):
        find_preset("padim-wr50-rd55")


def test_the_page_lists_every_preset_with_its_network_layers_and_input() -> None:
    page = (ROOT / "docs" / "presets.md").read_text()
    rows = {cells[0].strip("`"): cells[1:5] for cells in map(_cells, page.splitlines()) if cells[0].startswith("`")}
    for name, preset in PRESETS.items():
        if preset.backbone == PIXELS:
            continue
        geometry = f"{preset.size} → {preset.crop}" if preset.crop else str(preset.size)
        layers = ", ".join(map(str, preset.layers))
        assert rows.pop(name) == [f"`{preset.backbone}`", layers, geometry, f"{preset.sigma:g}"], name
    assert not rows.keys() - PRESETS.keys()


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("|")[1:-1]] or [""]
