from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import blemish
from blemish.detectors import FRE, Detector, Gaussian, PaDiM
from blemish.errors import ImageError, SettingError, StorageError
from blemish.explanation import Explanation, explain_layers
from blemish.explanation.explanation import COLUMNS
from blemish.maps import LayerMap
from conftest import part, scratched

RNG = np.random.default_rng(5)
SCRATCHED, MASK = scratched(RNG)

ADDITIVE = {
    "gaussian": Gaussian(),
    "gaussian, smoothed": Gaussian(smoothing=3.0, interpolation="bicubic"),
    "padim": PaDiM(dims=30),
    "padim, all channels": PaDiM(reduction="all"),
    "padim, principal components": PaDiM(reduction="pca", dims=12),
}


@pytest.fixture(scope="module")
def models(tree: Path) -> dict[str, blemish.Model]:
    """One of each, on two layers of different grids; not to be changed."""
    detectors: dict[str, Detector] = {
        **ADDITIVE,
        "fre": FRE(),
        "fre, one layer": FRE(),
        "fre, by products": FRE(join="product"),
    }
    return {
        name: blemish.fit(tree, detector=detector, size=64, layers=[2] if "one layer" in name else [2, 3])
        for name, detector in detectors.items()
    }


@pytest.mark.parametrize("name", ADDITIVE)
def test_all_components_add_up_to_the_layers_and_these_to_the_map(models: dict[str, blemish.Model], name: str) -> None:
    explanation = models[name].explain(SCRATCHED, 10_000)
    top = explanation.map.max()
    assert np.abs(sum(cause.map for cause in explanation.layers) - explanation.map).max() < 1e-4 * top
    assert np.abs(sum(cause.map for cause in explanation.components) - explanation.map).max() < 1e-4 * top
    for cause in explanation.layers:
        own = sum(of.map for of in explanation.components if of.layer == cause.layer)
        assert np.abs(own - cause.map).max() < 1e-4 * top
    assert sum(cause.share or 0 for cause in explanation.components) == pytest.approx(1, abs=1e-4)
    assert explanation.map[explanation.peak] == top


@pytest.mark.parametrize("name", [*ADDITIVE, "fre"])
def test_an_explanation_is_of_the_map_and_score_that_are_predicted(models: dict[str, blemish.Model], name: str) -> None:
    (prediction,) = models[name].predict(SCRATCHED)
    explanation = models[name].explain(SCRATCHED)
    assert prediction.map is not None
    assert np.allclose(explanation.map, prediction.map, rtol=1e-4)
    assert explanation.score == pytest.approx(prediction.score, rel=1e-4)
    assert explanation.p_value == prediction.p_value
    assert MASK[
        np.ix_(*(np.clip(np.arange(c * 96 // 64 - 12, c * 96 // 64 + 13), 0, 95) for c in explanation.peak))
    ].any()


def test_the_components_shown_are_those_that_add_the_most_at_the_peak_largest_first(
    models: dict[str, blemish.Model],
) -> None:
    model = models["gaussian"]
    everything = model.explain(SCRATCHED, 10_000).components
    values = [cause.at_peak for cause in everything]
    assert values == sorted(values, reverse=True)
    few = model.explain(SCRATCHED, 5).components
    assert [cause.at_peak for cause in few] == values[:5]
    assert [cause.at_peak for cause in model.explain(SCRATCHED, "best").components] == values[:12]
    assert [cause.at_peak for cause in model.explain(SCRATCHED, "worst").components] == values[:-13:-1]
    named = model.explain(SCRATCHED, [3, 7]).components
    assert {(cause.layer, cause.index) for cause in named} == {("2", 3), ("2", 7), ("3", 3), ("3", 7)}


@pytest.mark.parametrize("name", ["fre", "fre, by products"])
def test_of_fre_the_layers_multiply_to_the_map_and_share_its_logarithm_above_the_typical_one(
    models: dict[str, blemish.Model], name: str
) -> None:
    model = models[name]
    found = model.explain(SCRATCHED)
    assert [cause.layer for cause in found.layers] == ["2", "3"]
    assert not found.components
    grids = [layer.grid for layer in model.recipe.shapes]
    features = tuple(torch.from_numpy(RNG.standard_normal((2, *grid), np.float32)) for grid in grids)
    map, factors = model.scoring.head.map_and_layers(features)
    assert torch.allclose(factors[0] * factors[1], map, rtol=1e-4)
    logs = [np.log(cause.at_peak / cause.display[0]) for cause in found.layers]
    assert [cause.share for cause in found.layers] == pytest.approx([own / sum(logs) for own in logs])
    assert sum(cause.share or 0 for cause in found.layers) == pytest.approx(1)


def test_one_layer_alone_is_the_map_on_the_same_scale(models: dict[str, blemish.Model]) -> None:
    one = models["fre, one layer"].explain(SCRATCHED)
    assert np.array_equal(one.layers[0].map, one.map)
    assert one.layers[0].display == one.display
    assert one.layers[0].share == 1


def test_a_layer_that_draws_the_product_down_has_a_share_below_0_and_a_low_product_has_no_shares() -> None:
    kinds = [LayerMap((0,), False), LayerMap((1,), False)]
    scales, names = [(1.0, 3.0), (2.0, 5.0)], ["2", "3"]

    def shares(*values: float) -> list[float | None]:
        maps = [np.full((2, 2), value, np.float32) for value in values]
        return [cause.share for cause in explain_layers(maps[0] * maps[1], (2.0, 15.0), maps, kinds, scales, names)]

    assert shares(4.0, 2.0) == pytest.approx([1, 0])
    assert shares(8.0, 1.0) == pytest.approx([1.5, -0.5])
    assert shares(1.0, 1.0) == shares(1.0, 2.0) == shares(0.0, 9.0) == [None, None]


@pytest.mark.parametrize("name", [*ADDITIVE, "fre", "fre, by products"])
def test_good_images_stay_in_the_lower_half_of_every_layers_colours(
    models: dict[str, blemish.Model], name: str
) -> None:
    rng = np.random.default_rng(78)
    for _ in range(3):
        for cause in models[name].explain(part(rng)).layers:
            bottom, top = cause.display
            assert np.quantile(cause.map, 0.99) < bottom + 0.6 * (top - bottom), "a new one may reach a little higher"
    lit = [cause for cause in models[name].explain(SCRATCHED).layers if cause.map.max() > cause.display[1]]
    assert lit, "the scratch is at the top of some layer's colours"


def test_where_components_mix_the_layers_their_name_says_so(models: dict[str, blemish.Model]) -> None:
    explanation = models["padim, principal components"].explain(SCRATCHED, 3)
    assert {cause.layer for cause in explanation.components} == {"2+3"}


def test_padims_components_are_channels_of_their_layer(models: dict[str, blemish.Model]) -> None:
    model = models["padim"]
    channels = {layer.name: layer.channels for layer in model.recipe.shapes}
    found = model.explain(SCRATCHED, 10_000).components
    assert len(found) == 30
    assert len({(cause.layer, cause.index) for cause in found}) == 30
    assert all(cause.index is not None and cause.index < channels[cause.layer] for cause in found)


def test_a_saved_model_explains_as_the_fitted_one_on_either_engine(
    models: dict[str, blemish.Model], tmp_path: Path
) -> None:
    for name in ("gaussian", "padim", "fre"):
        expected = models[name].explain(SCRATCHED)
        models[name].save(tmp_path / name)
        for engine in ("openvino", "torch"):
            found = blemish.Model.load(tmp_path / name, engine).explain(SCRATCHED)
            causes = zip([*expected.layers, *expected.components], [*found.layers, *found.components], strict=True)
            for wanted, cause in causes:
                assert (cause.layer, cause.index) == (wanted.layer, wanted.index)
                assert np.allclose(cause.map, wanted.map, rtol=1e-3, atol=1e-3 * wanted.map.max()), (name, engine)


@pytest.mark.parametrize(
    "image",
    [
        SCRATCHED[..., 0],
        np.dstack([SCRATCHED, np.full(SCRATCHED.shape[:2], 255, np.uint8)]),
        SCRATCHED[..., 0].astype(np.uint16) * 257,
        SCRATCHED[:50, :80],
        np.zeros((1, 1), np.uint8),
    ],
    ids=["grey", "with alpha", "16 bits", "another size", "one pixel"],
)
def test_images_of_any_size_and_mode_are_explained(models: dict[str, blemish.Model], image: np.ndarray) -> None:
    explanation = models["gaussian"].explain(image)
    assert explanation.image.shape == (64, 64, 3)
    assert np.isfinite(explanation.map).all()


@pytest.mark.parametrize(
    ("name", "components", "expected"),
    [
        ("gaussian", [999], "there is no component 999; there are 0 to 111"),
        ("gaussian", [0, -1], "there is no component -1"),
        ("gaussian", 0, "0 components cannot be shown"),
        ("gaussian", "middling", "'middling' are not known; give a number, best, worst, or indices"),
        ("padim", [100_000], "there is no component 100000; there are "),
        ("fre", 12, r"has no components; it explains by layers \(2, 3\)"),
        ("fre", "best", r"has no components; it explains by layers"),
    ],
)
def test_components_that_are_not_there_are_refused(
    models: dict[str, blemish.Model], name: str, components: int | str | list[int], expected: str
) -> None:
    with pytest.raises(SettingError, match=expected):
        models[name].explain(SCRATCHED, components)


def test_what_is_no_image_is_refused(models: dict[str, blemish.Model], tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="does not exist"):
        models["gaussian"].explain(tmp_path / "nothing.png")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(ImageError, match="not an image of a known format"):
        models["gaussian"].explain(tmp_path / "text.png")
    with pytest.raises(ImageError, match="has shape"):
        models["gaussian"].explain(np.zeros((4, 4, 2), np.float32))


@pytest.fixture(scope="module")
def explanation(models: dict[str, blemish.Model]) -> Explanation:
    return models["gaussian"].explain(SCRATCHED)


@pytest.mark.parametrize("ending", ["png", "jpg", "webp"])
def test_the_picture_is_saved_as_its_name_ends(explanation: Explanation, tmp_path: Path, ending: str) -> None:
    explanation.save(tmp_path / f"why.{ending}")
    with Image.open(tmp_path / f"why.{ending}") as picture:
        assert picture.format == {"jpg": "JPEG"}.get(ending, ending.upper())
        assert picture.width > COLUMNS * 224, "image, map and two layers, then components in rows of six"
        assert picture.height > 3 * 224
    assert [path.name for path in tmp_path.iterdir()] == [f"why.{ending}"], "nothing else is left"


def test_a_notebook_shows_the_picture(explanation: Explanation) -> None:
    with Image.open(io.BytesIO(explanation._repr_png_())) as picture:
        assert np.array_equal(np.asarray(picture), explanation.picture())


def test_other_endings_scales_and_folders_that_cannot_be_written_are_refused(
    explanation: Explanation, tmp_path: Path
) -> None:
    with pytest.raises(SettingError, match=r"pictures end in \.png, \.jpg, \.jpeg, \.webp"):
        explanation.save(tmp_path / "why.pdf")
    with pytest.raises(SettingError, match="'loud' is not known; give one of fixed, per-component"):
        explanation.save(tmp_path / "why.png", scale="loud")
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="is not a folder"):
        explanation.save(tmp_path / "file" / "why.png")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_on_the_fixed_scale_a_good_part_is_dark_and_on_the_images_own_it_is_not(
    models: dict[str, blemish.Model],
) -> None:
    good = models["gaussian"].explain(part(np.random.default_rng(77)))
    black = Explanation(**{**vars(good), "image": np.zeros_like(good.image)})
    start = 3 * 224  # below the first row

    def bright(scale: str) -> float:
        pixels = black.picture(scale)[start:].astype(int)
        return float(((pixels[..., 0] > 100) & (pixels[..., 2] < 90)).mean())

    assert bright("fixed") < 0.2 * bright("per-component")
    assert bright("cross-component") != bright("score")


def test_the_numbers_are_there_for_machines(explanation: Explanation) -> None:
    told = explanation.as_dict()
    assert told["is_anomaly"] is True
    assert tuple(told["peak"].values()) == explanation.place
    assert [entry["index"] for entry in told["components"]] == [cause.index for cause in explanation.components]
    assert told["layers"][0]["share"] + told["layers"][1]["share"] == pytest.approx(1, abs=1e-4)


def test_boxes_and_the_peak_are_told_in_the_images_own_pixels(models: dict[str, blemish.Model]) -> None:
    wide = np.asarray(Image.fromarray(SCRATCHED).resize((288, 72)))
    found = models["gaussian"].explain(wide)
    (predicted,) = models["gaussian"].predict(wide)
    assert found.boxes_in_image == list(predicted.boxes) != []
    column, row = found.place
    box = found.boxes_in_image[0]
    assert box.top <= row < box.bottom
    assert box.left <= column < box.right
    assert found.as_dict()["boxes"][0]["right"] == box.right


def test_pictures_have_the_proportions_of_the_image_not_of_the_models_input(
    models: dict[str, blemish.Model], long_model: blemish.Model, long_tree: Path
) -> None:
    wide = np.asarray(Image.fromarray(SCRATCHED).resize((288, 72)))
    found = models["gaussian"].explain(wide)
    assert found.map.shape == found.image.shape[:2] == (64, 64)
    assert {panel.pixels.shape for panel in found.panels()} == {(32, 128, 3)}
    own = long_model.explain(long_tree / "test" / "scratch" / "000.png")
    assert own.map.shape == (32, 96)
    assert {panel.pixels.shape for panel in own.panels()} == {(35, 88, 3)}, "of 60x150, in as many pixels"
    square = long_model.explain(SCRATCHED)
    assert {panel.pixels.shape for panel in square.panels()} == {(55, 55, 3)}
