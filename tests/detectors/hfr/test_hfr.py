from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from scipy import ndimage
from torch.nn import functional as F

import blemish
from blemish.backbones.backbone import Backbone
from blemish.detectors import HFR, make_detector
from blemish.detectors.hfr.network import Decoder, Reconstruction, residuals
from blemish.detectors.scoring import Scoring
from blemish.errors import SettingError
from blemish.model import Model

GRIDS = [(6, 15, 13), (8, 8, 7), (10, 4, 4)]
QUICK = {"epochs": 2, "batch": 4, "learning_rate": 0.1}


def features(count: int = 5) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(count, *grid, generator=generator) for grid in GRIDS]


def fitted(**settings: object) -> HFR:
    detector = HFR(**settings)  # type: ignore[arg-type]
    detector.update(features())
    detector.decoder.eval()
    return detector


@pytest.mark.parametrize(("width", "depth"), [(0.25, 1), (1.0, 1), (2.0, 3)])
def test_every_layer_is_reconstructed_at_its_own_size_odd_ones_too(width: float, depth: int) -> None:
    made = Decoder(GRIDS, width, depth)(features()[-1])
    assert [tuple(layer.shape[1:]) for layer in made] == GRIDS


def test_a_layer_alone_is_reconstructed_from_itself() -> None:
    (made,) = Decoder(GRIDS[-1:], 1.0)(features()[-1])
    assert made.shape == features()[-1].shape


def test_residuals_are_one_minus_the_cosine() -> None:
    one, other = features(), features()[::1]
    other = [layer.flip(0) for layer in other]
    for found, a, b in zip(residuals(one, other), one, other, strict=True):
        assert torch.allclose(found, 1 - F.cosine_similarity(a, b, dim=1), atol=1e-5)
    assert all(float(layer.abs().max()) < 1e-6 for layer in residuals(one, [3 * layer for layer in one]))


def slow_convs(level: torch.nn.Module, maps: np.ndarray) -> np.ndarray:
    """Convolutions of 1x1, 3x3 and 1x1, each with batch normalisation and LeakyReLU(0.1), and one of 1x1 (eq. 3)."""
    layers = list(level)  # type: ignore[call-overload]
    assert [type(layer).__name__ for layer in layers] == [*["Conv2d", "BatchNorm2d", "LeakyReLU"] * 3, "Conv2d"]
    for place in (0, 3, 6, 9):
        weight = layers[place].weight.detach().double().numpy()  # (out, in, k, k)
        side = weight.shape[2]
        assert side == {0: 1, 3: 3, 6: 1, 9: 1}[place]
        padded = np.pad(maps, ((0, 0), (0, 0), (side // 2,) * 2, (side // 2,) * 2))
        made = np.zeros((len(maps), len(weight), *maps.shape[2:]))
        for down in range(side):
            for across in range(side):
                window = padded[:, :, down : down + maps.shape[2], across : across + maps.shape[3]]
                made += np.einsum("oi,bihw->bohw", weight[:, :, down, across], window)
        if place == 9:
            return made + layers[9].bias.detach().double().numpy()[:, None, None]
        norm = layers[place + 1]
        shift, scale, mean, variance = (
            tensor.detach().double().numpy()[:, None, None]
            for tensor in (norm.bias, norm.weight, norm.running_mean, norm.running_var)
        )
        made = (made - mean) / np.sqrt(variance + norm.eps) * scale + shift
        maps = np.where(made > 0, made, 0.1 * made)
    raise AssertionError


def test_each_layer_is_decoded_from_the_coarser_one_whose_values_are_repeated() -> None:
    decoder = Decoder(GRIDS, 1.5)
    with torch.no_grad():
        for _ in range(3):
            decoder(features()[-1])  # so that batch normalisation has moments of its own
        made = decoder.eval()(features()[-1])
    found = slow_convs(decoder.levels[2], features()[-1].double().numpy())  # the coarsest, without upsampling
    assert np.allclose(made[2].numpy(), found, atol=1e-5)
    for k in (1, 0):
        rows, columns = (np.arange(size) * old // size for size, old in zip(GRIDS[k][1:], found.shape[2:], strict=True))
        found = slow_convs(decoder.levels[k], found[:, :, rows][:, :, :, columns])  # eq. 4: the nearest value
        assert np.allclose(made[k].numpy(), found, atol=1e-5)


def test_a_residual_is_half_the_squared_distance_of_vectors_of_length_one_channel_by_channel() -> None:
    one, other = features(2), [layer.flip(0) for layer in features(2)]
    found = residuals(one, other)
    for k, (channels, height, width) in enumerate(GRIDS):
        for row in range(0, height, 3):
            for column in range(0, width, 3):
                a, b = (layer[k][0, :, row, column].double().numpy() for layer in (one, other))
                a, b = a / np.sqrt(sum(a**2)), b / np.sqrt(sum(b**2))  # eq. 6
                phi = [0.5 * (a[channel] - b[channel]) ** 2 for channel in range(channels)]  # eq. 5
                assert float(found[k][0, row, column]) == pytest.approx(sum(phi), rel=1e-4)


def test_the_map_is_the_smoothed_sum_of_residuals_resized_to_the_input_and_the_score_its_largest_value() -> None:
    """Eqs. 9, 10 and 11; up to a factor, the finest layer's number of positions, which all maps share."""
    size, sigma = (60, 52), 3.0
    detector = fitted(power=None, smoothing=sigma * 224 / (size[0] * size[1]) ** 0.5)
    whole = tuple(features())
    with torch.no_grad():
        score, full = Scoring(detector, size)(whole)
        phi = residuals(whole, detector.decoder(whole[-1]))
        together = torch.zeros(5, 1, *size)
        for residual in phi:
            height, width = residual.shape[1:]
            resized = F.interpolate(residual[:, None] / (height * width), size, mode="bilinear", align_corners=False)
            together += resized
    wanted = 15 * 13 * ndimage.gaussian_filter(together[:, 0].numpy(), (0, sigma, sigma), mode="reflect")
    assert np.allclose(full.numpy(), wanted, rtol=1e-4)
    assert np.allclose(score.numpy(), wanted.max((1, 2)), rtol=1e-4)


def test_it_is_trained_by_the_papers_sgd() -> None:
    (optimizer,) = Reconstruction(Decoder(GRIDS, 1.0)).optimizers(HFR().learning_rate)
    assert isinstance(optimizer, torch.optim.SGD)
    (group,) = optimizer.param_groups
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.4, 0.9, 1e-4)


def test_the_backbone_is_frozen_and_only_the_decoder_is_trained() -> None:
    weights = timm.create_model("resnet18", pretrained=False, features_only=True, out_indices=(1,)).state_dict()
    encoder = Backbone("resnet18", [1], weights)
    assert not encoder.training
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    detector = fitted()
    trained = list(detector.objective().parameters())
    assert {id(own) for own in trained} == {id(own) for own in detector.decoder.parameters()}


def test_vectors_of_zeros_are_no_fault() -> None:
    zeros = [torch.zeros_like(layer) for layer in features()]
    assert all(bool(torch.isfinite(layer).all()) for layer in residuals(zeros, features()))


def test_the_loss_is_the_mean_over_layers_of_the_mean_residual() -> None:
    objective = Reconstruction(Decoder(GRIDS, 1.0)).eval()
    terms = objective(features())
    made = objective.decoder(features()[-1])
    slow = []
    for layer, drawn in zip(features(), made, strict=True):
        a, b = layer / layer.norm(dim=1, keepdim=True), drawn / drawn.norm(dim=1, keepdim=True)
        slow.append((0.5 * (a - b) ** 2).sum((1, 2, 3)).mean() / (layer.shape[2] * layer.shape[3]))
    assert float(terms["loss"].detach()) == pytest.approx(float(torch.stack(slow).mean().detach()), rel=1e-4)


def test_every_parameter_has_a_gradient() -> None:
    objective = Reconstruction(Decoder(GRIDS, 1.0))
    objective(features())["loss"].backward()
    assert all(parameter.grad is not None for parameter in objective.parameters())


def test_the_score_is_the_maps_power_mean_or_its_maximum() -> None:
    maps = torch.rand(4, 30, 20, generator=torch.Generator().manual_seed(0))
    largest, mean, between = (fitted(power=power).head().score((), maps, maps) for power in (None, 1.0, 5.0))
    assert torch.equal(largest, maps.amax((1, 2)))
    assert torch.allclose(mean, maps.mean((1, 2)))
    assert torch.allclose(between, (maps.double() ** 5).mean((1, 2)).float() ** 0.2)
    high = fitted(power=64.0).head().score((), 1e30 * maps, 1e30 * maps)
    assert bool(torch.isfinite(high).all()), "no power overflows"
    assert fitted(power=2.0).head().score((), 0 * maps, 0 * maps).tolist() == pytest.approx([0] * 4, abs=1e-9)


def test_the_map_weighs_layers_by_area_as_the_paper_does_or_equally() -> None:
    whole = tuple(features())
    with torch.no_grad():
        area, equal = fitted().head(), fitted(weighting="equal").head()
        by_area, by_none = area.layers(whole), equal.layers(whole)
        assert torch.equal(by_area[0], by_none[0])
        assert torch.allclose(by_area[2], by_none[2] * (15 * 13) / 16)
        assert torch.allclose(area(whole), torch.stack(by_area).sum(0))
        assert area(whole).shape == (5, 15, 13)


def test_what_was_learned_is_restored() -> None:
    detector = fitted()
    again = make_detector("hfr", detector.settings()).restore(detector.grids_, detector.tensors())
    whole = tuple(features())
    with torch.no_grad():
        assert torch.equal(again.head()(whole), detector.head()(whole))
    assert again.count == 5


def test_layers_must_come_from_the_finest_to_the_coarsest() -> None:
    with pytest.raises(SettingError, match="give --layers from the finest to the coarsest"):
        HFR().update(features()[::-1])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 0}, "width is 0; expected a number above 0"),
        ({"depth": 9}, "depth is 9; expected a whole number from 1 to 8"),
        ({"weighting": "some"}, "weighting is 'some'; expected area or equal"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        make_detector("hfr", settings)


def test_a_model_is_trained_on_features_saved_and_loaded_on_either_engine(tree: Path, tmp_path: Path) -> None:
    model = blemish.fit(tree, detector=HFR(**QUICK), size=64)
    model.save(tmp_path / "model")
    scores = [prediction.score for prediction in model.predict(tree)]
    for engine in ("openvino", "torch"):
        found = [prediction.score for prediction in Model.load(tmp_path / "model", engine).predict(tree)]
        assert found == pytest.approx(scores, rel=1e-3)
    explanation = model.explain(next((tree / "test" / "scratch").iterdir()))
    assert len(explanation.layers) == 3
    total = np.sum([cause.map for cause in explanation.layers], axis=0)
    assert np.allclose(total, explanation.map, rtol=1e-3, atol=1e-4 * explanation.map.max())


def test_features_on_disk_give_the_same_model_as_in_memory(tree: Path) -> None:
    plans: list[object] = []
    kept = blemish.fit(tree, detector=HFR(**QUICK), size=64, announce=plans.append)
    spilled = blemish.fit(tree, detector=HFR(**QUICK), size=64, memory=0, announce=plans.append)
    assert [plan.disk > 0 for plan in plans] == [False, True]  # type: ignore[attr-defined]
    assert [p.score for p in kept.predict(tree)] == [p.score for p in spilled.predict(tree)]


def test_training_lowers_the_loss_on_images_held_back(tree: Path, tmp_path: Path) -> None:
    import json

    settings = {"epochs": 32, "batch": 8, "learning_rate": 0.2}
    blemish.fit(tree, detector=HFR(**settings), size=64, checkpoints=tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    judged = [line["judged"] for line in lines if "judged" in line]
    assert len(judged) >= 2
    assert max(judged) > judged[0]
