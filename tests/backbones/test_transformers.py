"""Transformers as backbones: their blocks are levels, and position embeddings are resized once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

import blemish
from blemish.backbones import side_step
from blemish.backbones.backbone import Backbone
from blemish.backbones.levels import Levels, layers_of_strides
from blemish.backbones.positions import resized_positions
from blemish.engines.openvino_engine import OpenVINOEngine
from blemish.errors import SettingError, WeightsError
from blemish.images import input_shape
from blemish.images.proportions import nearest_shape
from blemish.model import Model

# DINOv2, the same with registers, DINOv3, CLIP, and a plain one.
NAMES = {
    "vit_small_patch14_dinov2.lvd142m": 384,
    "vit_small_patch14_reg4_dinov2": 384,
    "vit_small_patch16_dinov3": 384,
    "vit_xsmall_patch16_clip_224": 256,
    "vit_tiny_patch16_224.augreg_in21k": 192,
}


def random_weights(name: str, blocks: int) -> dict[str, torch.Tensor]:
    """Weights of the first blocks, at the network's own size, with positions that differ."""
    torch.manual_seed(0)
    network = timm.create_model(name, features_only=True, out_indices=range(blocks))
    weights = {key.removeprefix("model."): tensor for key, tensor in network.state_dict().items()}
    return {key: torch.randn_like(value) if key == "pos_embed" else value for key, value in weights.items()}


@pytest.mark.parametrize(("name", "channels"), NAMES.items())
def test_blocks_of_a_transformer_are_maps_and_engines_agree(name: str, channels: int) -> None:
    patch = Levels.of(name).patch
    assert patch is not None
    shape = (4 * patch, 6 * patch)
    weights = resized_positions(random_weights(name, 2), (4, 6))
    backbone = Backbone(name, [0, "blocks.1", "0-1"], weights, shape)
    assert [layer.grid for layer in backbone.shapes(*shape)] == [(channels, 4, 6)] * 3
    images = np.random.default_rng(0).integers(0, 256, (2, *shape, 3), dtype=np.uint8)
    with torch.inference_mode():
        expected = [layer.numpy() for layer in backbone(torch.from_numpy(images))]
    found = next(OpenVINOEngine.from_module(backbone, *shape).run([images]))
    for layer, wanted in zip(found, expected, strict=True):
        assert np.abs(layer - wanted).max() <= 1e-3 * np.abs(wanted).max()
    assert np.allclose(expected[2], (expected[0] + expected[1]) / 2, atol=1e-4), "0-1 is the mean of both"
    assert not np.allclose(expected[0], expected[1])


def test_a_layer_is_what_the_whole_network_has_after_that_block() -> None:
    name = "vit_tiny_patch16_224"
    whole = timm.create_model(name).eval()
    backbone = Backbone(name, [1], whole.state_dict())
    images = torch.randint(0, 256, (1, 224, 224, 3), dtype=torch.uint8)
    seen: list[torch.Tensor] = []
    whole.blocks[1].register_forward_hook(lambda *given: seen.append(given[-1]))
    with torch.inference_mode():
        found = backbone(images)[0]
        whole(((images - backbone.mean) / backbone.deviation).permute(0, 3, 1, 2))
    assert torch.allclose(found.flatten(2).movedim(1, 2), seen[0][:, 1:], atol=1e-4)


def test_positions_are_resized_by_place_and_those_of_the_class_and_registers_stay() -> None:
    rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    places = torch.stack([rows, columns], -1).reshape(1, 64, 2)
    for extra in (0, 1, 5):
        prefix = torch.full((1, extra, 2), 100.0)
        found = resized_positions({"pos_embed": torch.cat([prefix, places], 1)}, (4, 16))["pos_embed"]
        assert found.shape == (1, extra + 64, 2)
        assert torch.equal(found[:, :extra], prefix)
        grid = found[0, extra:].reshape(4, 16, 2)
        assert torch.allclose(grid[1:3, 4:12, 0].mean(1), torch.tensor([2.5, 4.5]), atol=0.05), "half as many rows"
        assert torch.allclose(grid[:, 4:12, 1].mean(0), torch.arange(1.75, 5.5, 0.5), atol=0.05), "twice the columns"
    same = resized_positions({"pos_embed": places, "other": rows}, (8, 8))
    assert torch.equal(same["pos_embed"], places)
    assert same["other"] is rows
    with pytest.raises(WeightsError, match=r"pos_embed of shape \(64, 2\)"):
        resized_positions({"pos_embed": places[0]}, (4, 4))


@pytest.mark.parametrize(
    ("shape", "near"), [((256, 256), "252 or 266"), ((70, 100), "70x98 or 84x112"), ((10, 10), "14 or 14")]
)
def test_a_size_that_the_patches_do_not_fill_is_refused_with_sizes_that_they_fill(
    shape: tuple[int, int], near: str
) -> None:
    levels = Levels.of("vit_small_patch14_dinov2")
    with pytest.raises(SettingError, match=f"multiples of 14, not {shape[0]}x{shape[1]}; give a --size .* of {near}"):
        levels.check_shape(*shape)
    levels.check_shape(252, 518)
    Levels.of("resnet18").check_shape(250, 251)  # any


def test_sizes_in_the_images_proportions_are_multiples_of_the_patches() -> None:
    assert side_step("vit_small_patch14_dinov2") == 14
    assert (
        side_step("vit_base_patch16_clip_224") == side_step("swin_tiny_patch4_window7_224") == side_step("vgg16") == 32
    )
    assert input_shape(256, [], 14) == (252, 252)
    assert input_shape(256, [0.6931] * 3, 14) == (364, 182)
    assert nearest_shape(64, 5.0, 14) == (126, 42), "not below 32 pixels"


def test_default_layers_of_a_transformer_are_evenly_spaced() -> None:
    name = "vit_small_patch14_dinov2"
    assert layers_of_strides(name, (16,)) == (5,)
    assert layers_of_strides(name, (8, 16, 32)) == (2, 5, 8)
    assert layers_of_strides(name, (4, 8, 16, 32)) == (1, 4, 6, 9)


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([12], "has no layer 12"),
        (["3-12"], "has no layer 12"),
        (["3-2"], "layer 3-2 .* cannot be averaged"),
        (["model.blocks.0.norm1"], "gives no feature map; name a level by its number"),
    ],
)
def test_layers_that_a_transformer_does_not_have_are_refused(layers: list[int | str], expected: str) -> None:
    name = "vit_tiny_patch16_224"
    weights = random_weights(name, 12) if "map" in expected else {}
    with pytest.raises(SettingError, match=expected):
        Backbone(name, layers, weights).shapes(224, 224)


def test_levels_of_several_shapes_have_no_mean() -> None:
    with pytest.raises(SettingError, match="layer 1-2 of resnet18 cannot be averaged"):
        Levels.of("resnet18").taken("1-2")


def test_channels_come_first_also_where_the_network_has_them_last() -> None:
    name = "swin_tiny_patch4_window7_224"
    weights = timm.create_model(name, features_only=True, out_indices=(0, 1)).state_dict()
    backbone = Backbone(name, [0, 1], weights)
    assert [layer.grid for layer in backbone.shapes(224, 224)] == [(96, 56, 56), (192, 28, 28)]


def test_a_model_on_a_transformer_is_saved_and_loaded_in_both_engines(tree: Path, tmp_path: Path) -> None:
    name = "eva02_tiny_patch14_224"  # with positions of both kinds
    file = tmp_path / "w.safetensors"
    save_file(random_weights(name, 2), file)
    shared = {"shared": True}  # as SubspaceAD
    fitted = blemish.fit(tree, settings=shared, backbone=name, layers=["0-1"], size=64, copies=0, weights=file)
    assert fitted.recipe.geometry.shape == (70, 70), "the nearest that 14 divides"
    assert fitted.recipe.normalisation is not None
    assert fitted.provenance.weights.startswith("file w.safetensors, SHA-256 ")
    fitted.save(tmp_path / "model")
    expected = np.array([prediction.score for prediction in fitted.predict(tree)])
    for engine in ("openvino", "torch"):
        loaded = Model.load(tmp_path / "model", engine)
        assert loaded.recipe == fitted.recipe
        found = np.array([prediction.score for prediction in loaded.predict(tree)])
        assert np.abs(found - expected).max() <= 1e-3 * expected.max()
