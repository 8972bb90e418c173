from __future__ import annotations

import csv
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import roc_auc_score

import blemish
from blemish.backbones.backbone import Backbone
from blemish.backbones.weights import find_weights
from blemish.components import Survey, diagnose, prune, survey, write_figures, write_gallery
from blemish.components.figures import DIAGNOSES
from blemish.datasets import Dataset, Sample, read_source
from blemish.detectors import Gaussian
from blemish.detectors.scoring import resizing_matrix
from blemish.errors import SettingError, SourceError, StorageError
from blemish.evaluation import evaluate
from blemish.images import read_mask
from blemish.report import write_layers
from browser import open_page

GRID = (8, 8)
SIDE = 32


@pytest.fixture(scope="module")
def gaussian(tree: Path) -> blemish.Model:
    """On two layers; not to be changed."""
    return blemish.fit(tree, detector="gaussian", size=64, layers=[1, 2])


@pytest.fixture(scope="module")
def dataset(tree: Path) -> Dataset:
    return read_source(tree)


def made_up(count: int, components: int = 3, seed: int = 0) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    """Squares of standard normal components (n, K, 8, 8), images and masks; component 0 is larger on defects."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, SIDE, SIDE), bool)
    for mask in masks:
        top, left = rng.integers(0, SIDE - 12, 2)
        mask[top : top + 12, left : left + 12] = True
    y = rng.standard_normal((count, components, *GRID))
    y[:, 0] += 2 * masks.reshape(count, 8, 4, 8, 4).mean((2, 4))
    images = rng.integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)
    return torch.from_numpy(y**2).float(), images, masks


def seen(maps: torch.Tensor, images: np.ndarray, masks: np.ndarray | None = None) -> Survey:
    empty = Survey.empty(*maps.shape[1:])
    return empty.update(maps, images, None if masks is None else list(masks)) if len(maps) else empty


def exact_auroc(maps: torch.Tensor, masks: np.ndarray) -> list[float]:
    rows, columns = (
        torch.from_numpy(resizing_matrix(c, f, "bilinear")) for c, f in zip(GRID, masks.shape[1:], strict=True)
    )
    full = rows @ torch.cat([maps, maps.sum(1, keepdim=True)], 1).double() @ columns.T
    return [float(roc_auc_score(masks.ravel(), full[:, c].numpy().ravel())) for c in range(full.shape[1])]


def test_the_auroc_of_each_component_is_that_of_its_pixels_to_a_thousandth() -> None:
    maps, images, masks = made_up(12)
    assert np.allclose(seen(maps, images, masks).auroc(), exact_auroc(maps, masks), atol=1e-3)


def test_on_real_images_too(data: Path) -> None:
    bottle = read_source(data / "mvtec" / "bottle")
    part = replace(bottle, train=bottle.train[:24], test=bottle.test[::6])
    model = blemish.fit(part, detector="gaussian", size=128)
    (found,) = survey(model, part.test, masks=True)
    chosen = [0, 30, 60, 111]
    scores: list[list[np.ndarray]] = [[] for _ in chosen]
    masks = []
    for sample in part.test:
        explanation = model.explain(sample.path, chosen)
        by_index = {cause.index: cause.map for cause in explanation.components}
        for column, index in zip(scores, chosen, strict=True):
            column.append(by_index[index].ravel())
        mask = np.zeros(model.recipe.geometry.shape, bool)
        if sample.mask:
            mask = read_mask(sample.mask, sample.path, model.recipe.geometry)
        masks.append(mask.ravel())
    areas = found.auroc()
    for column, index in zip(scores, chosen, strict=True):
        assert areas[index] == pytest.approx(roc_auc_score(np.concatenate(masks), np.concatenate(column)), abs=1e-3)


def test_values_are_counted_finely_enough_for_percentiles_and_shares() -> None:
    maps, images, _ = made_up(40)
    found = seen(maps, images)
    flat = torch.cat([maps, maps.sum(1, keepdim=True)], 1).movedim(1, 0).flatten(1).numpy()
    exact = np.percentile(flat, 99, axis=1, method="inverted_cdf")
    assert np.allclose(found.percentile(), exact, rtol=4e-3)
    together = np.percentile(flat[:-1], 99, method="inverted_cdf")
    assert found.percentile_together() == pytest.approx(together, rel=4e-3)
    assert np.array_equal(found.share_within(9.0), (flat < 9).mean(1))
    assert found.auroc() == [None] * 4, "without masks there is nothing to judge by"


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 9), st.integers(0, 9))
def test_any_split_of_the_images_gives_the_same_survey(one: int, other: int) -> None:
    maps, images, masks = made_up(9)
    start, stop = sorted((one, other))
    parts = [seen(maps[a:b], images[a:b], masks[a:b]) for a, b in ((0, start), (start, stop), (stop, 9))]
    merged, whole = parts[0].merge(parts[1]).merge(parts[2]), seen(maps, images, masks)
    assert merged.images == whole.images == 9
    for name in ("counts", "pixels", "total", "squares", "gradients", "products"):
        assert np.allclose(getattr(merged, name), getattr(whole, name)), name
    assert merged.tally.figures() == whole.tally.figures()
    assert np.array_equal(merged.merge(Survey.empty(3, *GRID)).counts, whole.counts)


def test_border_and_corner_are_the_mean_there_over_that_inside() -> None:
    maps = torch.ones(2, 3, *GRID)
    maps[:, 0, 0] = maps[:, 0, -1] = maps[:, 0, :, 0] = maps[:, 0, :, -1] = 3.0
    maps[:, 1, [0, 0, -1, -1], [0, -1, 0, -1]] = 5.0
    found = seen(maps, np.zeros((2, SIDE, SIDE, 3), np.uint8))
    assert found.ring()[:3] == pytest.approx([3.0, (4 * 5 + 24) / 28, 1.0])
    assert found.ring(corners=True)[:3] == pytest.approx([3.0, 5.0, 1.0])
    with pytest.raises(SettingError, match="2x2 positions has only a border"):
        Survey.empty(1, 2, 2).ring()


def test_the_frontier_is_the_correlation_with_the_images_edges() -> None:
    rng = np.random.default_rng(3)
    grey = np.full((6, SIDE, SIDE), 40, np.uint8)
    for image in grey:
        top, left = rng.integers(4, 14, 2)
        image[top : top + 14, left : left + 14] = 200
    images = np.repeat(grey[..., None], 3, axis=3)
    down, across = np.gradient(grey.astype(float), axis=(1, 2))
    edges = np.hypot(down, across).reshape(6, 8, 4, 8, 4).mean((2, 4))
    noise = rng.standard_normal((6, *GRID)) ** 2
    maps = torch.from_numpy(np.stack([edges, edges.max() - edges, noise, np.ones_like(noise)], 1)).float()
    found = seen(maps, images).frontier()[:4]
    assert found[:2] == pytest.approx([1, -1], abs=1e-3)
    assert found[2] == pytest.approx(np.corrcoef(noise.ravel(), edges.ravel())[0, 1], abs=1e-4)
    assert abs(found[3]) < 1e-6, "what never varies goes with nothing"


def test_of_normal_features_the_diagnoses_are_what_the_normal_law_says() -> None:
    rng = np.random.default_rng(0)
    maps = torch.from_numpy(rng.standard_normal((60, 2, 16, 16)) ** 2).float()
    found = seen(maps, rng.integers(0, 256, (60, SIDE, SIDE, 3), dtype=np.uint8))
    assert found.percentile()[:2] == pytest.approx([6.635, 6.635], rel=0.06)
    assert found.share_within(9.0)[:2] == pytest.approx([0.9973, 0.9973], abs=0.002)
    assert found.ring()[:2] == pytest.approx([1, 1], abs=0.06)
    assert np.abs(found.frontier()[:2]).max() < 0.05


def test_a_row_a_component_and_one_for_the_sum_of_each_layer(gaussian: blemish.Model, dataset: Dataset) -> None:
    rows = diagnose(gaussian, dataset.train, dataset.test)
    for name, layer in zip(("1", "2"), gaussian.recipe.shapes, strict=True):
        own = [row for row in rows if row.layer == name]
        assert [row.component for row in own] == [*range(layer.channels), -1]
        values = [row.eigenvalue for row in own[:-1]]
        assert values == sorted(values, key=lambda value: value or 0.0)
        assert own[0].pixels_a_cell == 64 / layer.height
        assert own[-1].auroc is not None
        assert own[-1].auroc > 0.9
        assert own[-1].eigenvalue is None
    assert all(row.auroc is None for row in diagnose(gaussian, dataset.train))


def border_effects(backbone: Backbone, layers: int) -> list[Survey]:
    """Of noise, which is the same wherever one looks, so that what differs at the border comes from the network."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (48, 128, 128, 3), dtype=np.uint8)
    with torch.inference_mode():
        features = backbone(torch.from_numpy(images))
    detector = Gaussian().update(features)
    found = []
    for maps in detector.head().components(features):
        found.append(Survey.empty(*maps.shape[1:]).update(maps, images))
    assert len(found) == layers
    return found


def test_padding_makes_borders_and_corners_of_a_networks_components_stand_out() -> None:
    """The paper's border effect, on ResNet-18 with random weights and on EfficientNet-Lite0 with real ones."""
    torch.manual_seed(0)
    resnet = Backbone("resnet18", [1, 2, 3], timm.create_model("resnet18").state_dict())
    weights, _ = find_weights("efficientnet_lite0")
    lite = Backbone("efficientnet_lite0", [1, 2, 3], weights)
    for network in (resnet, lite):
        for layer in border_effects(network, 3):
            border, corner = layer.ring()[:-1], layer.ring(corners=True)[:-1]
            assert border.max() > 2
            assert corner.max() > border.max(), "in a corner two borders meet"
    for module in resnet.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.padding_mode = "circular"
            module._reversed_padding_repeated_twice = [side for side in module.padding[::-1] for _ in range(2)]
    resnet.network.maxpool = torch.nn.Sequential(torch.nn.CircularPad2d(1), torch.nn.MaxPool2d(3, 2))
    first = border_effects(resnet, 3)[0]
    assert first.ring()[:-1].max() < 1.1, "where the network sees no border, there is no effect"
    assert first.ring(corners=True)[:-1].max() < 1.3


def test_pruning_takes_the_components_out_of_the_sum(gaussian: blemish.Model, dataset: Dataset, tmp_path: Path) -> None:
    dropped = ["1:0", "1:5", "2:7"]
    result = prune(gaussian, dataset, drop=dropped)
    assert result.dropped == ((0, 5), (7,))
    assert [prediction.score for prediction in result.model.predict(dataset.test[0].path)] != [
        prediction.score for prediction in gaussian.predict(dataset.test[0].path)
    ]
    image = dataset.test[-1].path
    whole, pruned = gaussian.explain(image, 10_000), result.model.explain(image, 10_000)
    left_out = {("1", 0), ("1", 5), ("2", 7)}
    expected = sum(cause.map for cause in whole.components if (cause.layer, cause.index) not in left_out)
    assert np.allclose(pruned.map, expected, rtol=1e-3)
    assert {(c.layer, c.index) for c in whole.components} - {(c.layer, c.index) for c in pruned.components} == left_out
    result.model.save(tmp_path / "pruned")
    for engine in ("openvino", "torch"):
        again = blemish.Model.load(tmp_path / "pruned", engine)
        assert again.explain(image).score == pytest.approx(pruned.score, rel=1e-3)
        assert again.threshold == result.model.threshold
    assert result.model.provenance.learned["components"] == [22, 39]
    assert result.before is not None
    assert result.after is not None
    assert result.after.pixel == evaluate(result.model, dataset).pixel


def test_a_pruned_model_is_calibrated_again_and_can_be_pruned_again(gaussian: blemish.Model, dataset: Dataset) -> None:
    same = prune(gaussian, dataset, drop=[]).model
    assert np.allclose(same.calibration.scores, gaussian.calibration.scores, rtol=1e-5), "nothing left out, nothing new"
    once = prune(gaussian, dataset, drop=["1:0"]).model
    assert once.threshold < gaussian.threshold
    twice = prune(once, dataset, drop=["1:1"])
    assert twice.dropped == ((0, 1), ())


def test_components_with_a_border_effect_are_those_left_out(gaussian: blemish.Model, dataset: Dataset) -> None:
    rows = [row for row in diagnose(gaussian, dataset.train) if row.component >= 0]
    limit = sorted(row.border for row in rows)[-4]
    result = prune(gaussian, dataset, border=limit)
    assert sum(map(len, result.dropped)) == 4
    for layer, dropped in zip(("1", "2"), result.dropped, strict=True):
        assert set(dropped) == {row.component for row in rows if row.layer == layer and row.border >= limit}


def test_the_best_of_each_layer_are_those_kept(gaussian: blemish.Model, dataset: Dataset) -> None:
    rows = diagnose(gaussian, dataset.train, dataset.test)
    result = prune(gaussian, dataset, keep_best=5)
    for layer, dropped in zip(("1", "2"), result.dropped, strict=True):
        own = [row for row in rows if row.layer == layer and row.component >= 0]
        kept = sorted((row for row in own if row.component not in dropped), key=lambda row: row.auroc or 0.0)
        assert len(kept) == 5
        assert (kept[0].auroc or 0) >= max(row.auroc or 0 for row in own if row.component in dropped)


def test_without_labels_there_are_no_figures_before_and_after(gaussian: blemish.Model, dataset: Dataset) -> None:
    result = prune(gaussian, replace(dataset, test=[]), drop=["2:0"])
    assert (result.before, result.after) == (None, None)


@pytest.mark.parametrize(
    ("ways", "expected"),
    [
        ({}, "give one way to choose"),
        ({"border": 2.0, "keep_best": 3}, "give one way to choose"),
        ({"drop": ["999"]}, "may be of layer 1 or 2; give LAYER:999"),
        ({"drop": ["1:999"]}, "layer 0 has no component 999; give 0 to 23"),
        ({"drop": ["7:1"]}, "no layer '7'; it has 1, 2"),
        ({"drop": ["first"]}, "'first' is not a component"),
        ({"drop": [f"1:{index}" for index in range(24)]}, "no component of layer 1 would be left of 24"),
        ({"border": 1e-9}, "no component of layer 1 would be left"),
        ({"border": 0.0}, "out of range"),
        ({"keep_best": 0}, "0 components to keep is out of range"),
    ],
)
def test_a_pruning_that_cannot_be_done_is_refused(
    gaussian: blemish.Model, dataset: Dataset, ways: dict[str, Any], expected: str
) -> None:
    with pytest.raises(SettingError, match=expected):
        prune(gaussian, dataset, **ways)


def test_a_pruning_needs_the_images_again_and_for_the_best_their_masks(
    gaussian: blemish.Model, dataset: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(SourceError, match="has no masks to choose components by"):
        prune(gaussian, replace(dataset, has_masks=False), keep_best=3)
    moved = Path(shutil.copytree(dataset.root, tmp_path / "moved"))
    model = blemish.fit(moved, detector="gaussian", size=64, layers=[2])
    moved.rename(tmp_path / "elsewhere")
    with pytest.raises(SourceError, match="no such file or folder"):
        prune(model, drop=["0"])
    assert prune(model, tmp_path / "elsewhere", drop=["0"]).dropped == ((0,),)


def test_a_pruning_on_other_images_is_refused_before_any_work(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("here", "there"):
        shutil.copytree(tree / "train", tmp_path / folder / "parts" / "train")
    monkeypatch.chdir(tmp_path / "here")
    model = blemish.fit("parts", detector="gaussian", size=64, layers=[2])
    (tmp_path / "there" / "parts" / "train" / "good" / "023.png").unlink()
    monkeypatch.chdir(tmp_path / "there")
    with monkeypatch.context() as context:
        context.setattr("blemish.fitting.passes.stream", None)
        context.setattr(sys.modules["blemish.components.survey"], "decode_ahead", None)  # the function hides the file
        for ways in ({"drop": ["0"]}, {"border": 2.0}):
            with pytest.raises(SourceError, match=r"parts: holds other images .* \(23 now, 24 then\); give the images"):
                prune(model, **ways)  # type: ignore[arg-type]
            with pytest.raises(SourceError, match="holds other images"):
                prune(model, tree / "test" / "good", **ways)  # type: ignore[arg-type]
    shutil.copy(tree / "train" / "good" / "023.png", tmp_path / "there" / "parts" / "train" / "good")
    assert prune(model, drop=["0"]).dropped == ((0,),), "the same images elsewhere"


def test_a_detector_without_shared_components_says_what_it_explains_by(
    model: blemish.Model, dataset: Dataset, tmp_path: Path
) -> None:
    for ask in (
        lambda: prune(model, dataset, drop=["0"]),
        lambda: diagnose(model, dataset.train),
        lambda: write_figures(model, dataset, tmp_path / "f"),
        lambda: write_gallery(model, dataset, tmp_path / "g"),
    ):
        with pytest.raises(
            SettingError, match=r"detector gaussian, but the model's detector is fre; `blemish explain MODEL IMAGE`"
        ):
            ask()
    assert not list(tmp_path.iterdir())


def test_figures_are_three_a_layer_and_a_table(gaussian: blemish.Model, dataset: Dataset, tmp_path: Path) -> None:
    names = write_figures(gaussian, dataset, tmp_path / "figures", components=3, images=2)
    kinds = ("worst-good", "worst-anomalous", "best-with-map")
    wanted = {DIAGNOSES} | {f"layer-{layer}-{kind}.png" for layer in (1, 2) for kind in kinds}
    assert set(names) == wanted == {path.name for path in (tmp_path / "figures").iterdir()} - {"blemish.json"}
    sizes = {}
    for kind in kinds:
        with Image.open(tmp_path / "figures" / f"layer-1-{kind}.png") as picture:
            sizes[kind] = picture.size
    assert sizes["best-with-map"][0] - sizes["worst-good"][0] == 232, "one column more, the layer's map"
    with (tmp_path / "figures" / DIAGNOSES).open() as table:
        rows = list(csv.DictReader(table))
    assert len(rows) == 24 + 1 + 40 + 1
    assert float(rows[0]["border"]) > 0


@pytest.mark.parametrize("missing", ["has_masks", "train", "test"])
def test_figures_need_normal_images_anomalous_ones_and_masks(
    gaussian: blemish.Model, dataset: Dataset, tmp_path: Path, missing: str
) -> None:
    part = replace(dataset, **{missing: False if missing == "has_masks" else []})
    with pytest.raises(SourceError, match="the figures need good images, anomalous ones and their masks"):
        write_figures(gaussian, part, tmp_path / "figures")


def test_columns_are_image_ground_truth_layers_and_map_and_rows_a_good_image_and_anomalous_ones(
    model: blemish.Model, dataset: Dataset, tmp_path: Path
) -> None:
    assert write_layers(model, dataset, tmp_path / "layers", images=2) == ["layers.png"]
    with Image.open(tmp_path / "layers" / "layers.png") as picture:
        found = np.asarray(picture)
    layers = len(model.recipe.layers)
    assert found.shape[1] == 8 + (3 + layers) * 232, "tiles of 224 pixels with gaps of 8"
    assert found.shape[0] == pytest.approx(3 * 295, abs=40)
    assert write_layers(model, replace(dataset, has_masks=False), tmp_path / "bare", images=1) == ["layers.png"]
    with Image.open(tmp_path / "bare" / "layers.png") as picture:
        assert picture.size[0] == 8 + (2 + layers) * 232, "a column less without ground truth"


def test_ground_truth_is_that_of_the_image(model: blemish.Model, dataset: Dataset, tmp_path: Path) -> None:
    write_layers(model, dataset, tmp_path / "layers", images=1)
    with Image.open(tmp_path / "layers" / "layers.png") as picture:
        found = np.asarray(picture)
    column = found[:, 8 + 232 : 8 + 232 + 224].max(2)
    (black,) = np.nonzero((column < 8).all(1))
    assert black[:224].tolist() == list(range(black[0], black[0] + 224)), "on the good image nothing is marked"
    second = black[0] + (len(found) - black[0]) // 2
    sample = next(sample for sample in dataset.test if sample.is_anomalous)
    assert sample.mask is not None
    mask = Image.fromarray(read_mask(sample.mask, sample.path, model.recipe.geometry)).convert("L")
    expected = np.asarray(mask.resize((224, 224), Image.Resampling.BILINEAR)) > 127
    assert (column[second : second + 224] > 127)[expected].mean() > 0.95
    assert (column[second : second + 224] > 127)[~expected].mean() < 0.05


def test_layers_need_an_anomalous_image(model: blemish.Model, dataset: Dataset, tmp_path: Path) -> None:
    good = replace(dataset, test=[sample for sample in dataset.test if not sample.is_anomalous])
    with pytest.raises(SourceError, match="has no labelled anomalous images to show"):
        write_layers(model, good, tmp_path / "layers")
    with pytest.raises(SettingError, match="0 images cannot be shown"):
        write_layers(model, dataset, tmp_path / "layers", images=0)
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_replaced_only_when_told(gaussian: blemish.Model, dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "work.txt").write_text("mine")
    for write in (write_figures, write_gallery):
        with pytest.raises(StorageError, match="exists already"):
            write(gaussian, dataset, tmp_path / "precious")
        with pytest.raises(StorageError, match="so it is not replaced"):
            write(gaussian, dataset, tmp_path / "precious", force=True)
    assert (tmp_path / "precious" / "work.txt").read_text() == "mine"


@pytest.fixture(scope="module")
def gallery(gaussian: blemish.Model, dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gallery") / "gallery"
    write_gallery(gaussian, dataset, folder, images=4)
    return folder


def test_the_gallery_has_a_strip_of_every_component(gallery: Path) -> None:
    files = {path.name for path in gallery.iterdir()}
    assert len(files) == 3 + 24 + 1 + 40 + 1, "page, images, card, and a strip each"
    with Image.open(gallery / "layer0-0003.jpg") as strip:
        assert strip.size == (4 * 128, 128)


@pytest.fixture
def page(gallery: Path) -> Iterator[Any]:
    with open_page(gallery / "index.html") as page:
        yield page


def test_in_a_browser_the_gallery_is_sorted_and_narrowed_to_a_layer(page: Any) -> None:
    captions = page.locator("#rows figcaption")
    assert captions.count() == 66
    assert "sum of all" in captions.first.text_content()
    assert "layer 1, component 0" in captions.nth(2).text_content()
    page.select_option("#key", "border")
    page.check("#descending")

    def border(caption: str) -> float:
        return float(caption.split("border ")[1].split(" ")[0])

    shown = [border(text) for text in captions.all_text_contents()[2:]]
    assert shown == sorted(shown, reverse=True)
    assert shown[0] > shown[-1]
    page.select_option("#layer", "2")
    assert captions.count() == 41
    assert page.locator("#count").text_content() == "41 rows"
    picture = page.locator("#rows img").first
    assert picture.get_attribute("loading") == "lazy"
    assert "Layer 2, sum of all" in picture.get_attribute("alt")
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == 512


def test_figures_and_gallery_have_the_proportions_of_the_images(
    long_model: blemish.Model, long_tree: Path, tmp_path: Path
) -> None:
    write_gallery(long_model, read_source(long_tree), tmp_path / "gallery", images=3)
    with Image.open(tmp_path / "gallery" / "images.jpg") as strip:
        width, height = strip.size
    assert width / height == pytest.approx(3 * 2.5, rel=0.02)
    for path in (tmp_path / "gallery").glob("*.jpg"):
        with Image.open(path) as strip:
            assert strip.size == (width, height)
    assert f'width="{width}" height="{height}"' in (tmp_path / "gallery" / "index.html").read_text()
    names = write_figures(long_model, read_source(long_tree), tmp_path / "figures", components=1, images=1)
    picture = np.asarray(Image.open(tmp_path / "figures" / names[1])).astype(int)
    rows, columns = np.nonzero(np.ptp(picture, axis=2) > 5)  # what is drawn in colours
    assert (np.ptp(columns) + 1) / (np.ptp(rows) + 1) == pytest.approx(2.5, rel=0.1)


def test_names_from_the_data_are_text_in_the_gallery(gaussian: blemish.Model, tree: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(tree, tmp_path / "t"))
    for folder in ("test", "ground_truth"):
        (root / folder / "scratch").rename(root / folder / "<i>scratch")
    write_gallery(gaussian, read_source(root), tmp_path / "gallery", images=10)
    text = (tmp_path / "gallery" / "index.html").read_text()
    assert "<i>scratch" not in text
    assert "&lt;i&gt;scratch" in text


def test_too_many_images_and_none_are_refused(gaussian: blemish.Model, dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="33 images is out of range"):
        write_gallery(gaussian, dataset, tmp_path / "g", images=33)
    with pytest.raises(SourceError, match="has no good images"):
        write_gallery(gaussian, replace(dataset, train=[]), tmp_path / "g")
    with pytest.raises(SourceError, match="there are no images"):
        survey(gaussian, [])


def test_images_that_cannot_be_read_are_left_out_of_a_survey(
    gaussian: blemish.Model, tmp_path: Path, tree: Path
) -> None:
    (tmp_path / "bad.png").write_text("no picture")
    good = [Sample(path) for path in sorted((tree / "train" / "good").iterdir())[:3]]
    assert survey(gaussian, [*good, Sample(tmp_path / "bad.png")])[0].images == 3
    with pytest.raises(SourceError, match="none of the images can be read"):
        survey(gaussian, [Sample(tmp_path / "bad.png")])


@pytest.mark.parametrize(
    ("drop", "expected"),
    [
        (((0,),), "drop has lists for 1 layers, and there are 2"),
        (((0,), (999,)), "layer 1 has no component 999"),
        ((tuple(range(24)), ()), "no component of layer 0 would be left"),
    ],
)
def test_dropping_what_is_not_there_is_refused_at_the_fit(
    tree: Path, drop: tuple[tuple[int, ...], ...], expected: str
) -> None:
    with pytest.raises(SettingError, match=expected):
        blemish.fit(tree, detector=Gaussian(drop=drop), size=64, layers=[1, 2])
