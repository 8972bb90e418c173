from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import precision_recall_curve, roc_auc_score

import blemish
from blemish.datasets import Dataset, read_source, read_truth
from blemish.evaluation import Evaluation, compared
from blemish.metrics import MapCounts, NormalPixels
from blemish.report import write_image_figures
from conftest import part, scratched, write_parts


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Enough good images at 64² for AUPIMO, and two classes of defects; the defects come first."""
    root = tmp_path_factory.mktemp("evaluated") / "parts"
    write_parts(root / "train" / "good", 2, size=64)
    write_parts(root / "test" / "good", 110, seed=5, size=64)
    rng = np.random.default_rng(6)
    for kind, count in (("dent", 7), ("scratch", 3)):
        for folder in (root / "test" / kind, root / "ground_truth" / kind):
            folder.mkdir(parents=True)
        for index in range(count):
            image, mask = scratched(rng, 64)
            if kind == "dent":
                image = part(rng, 64)
                image[mask] = (0.97 - 0.03 * index) * image[mask]  # the first one is hardly to be seen
            Image.fromarray(image).save(root / "test" / kind / f"{index}.png")
            Image.fromarray(mask).save(root / "ground_truth" / kind / f"{index}_mask.png")
    found = read_source(root)
    return replace(found, test=sorted(found.test, key=lambda sample: (not sample.is_anomalous, str(sample.path))))


@pytest.fixture(scope="module")
def evaluation(model: blemish.Model, dataset: Dataset) -> Evaluation:
    return blemish.evaluate(model, dataset)


def test_figures_of_single_images_are_those_of_their_maps_in_the_order_of_the_data_set(
    evaluation: Evaluation, model: blemish.Model, dataset: Dataset
) -> None:
    assert [sample for sample, _ in evaluation.results] == dataset.test
    assert evaluation.per_image.names[0] == "dent/0.png"
    assert evaluation.per_image.names[-1] == "good/109.png"
    normal, counts = NormalPixels(), []
    for sample, prediction in zip(dataset.test, model.judge([sample.path for sample in dataset.test]), strict=True):
        assert prediction.map is not None
        mask = read_truth(sample, model.recipe.geometry)
        if sample.is_anomalous:
            counts.append((MapCounts.count(prediction.map, mask), roc_auc_score(mask.ravel(), prediction.map.ravel())))
        else:
            normal.add(MapCounts.count(prediction.map, mask))
    worths = normal.worths()
    assert worths is not None
    assert evaluation.per_image.pixel_auroc[:10] == pytest.approx([own for _, own in counts], abs=1e-5)
    assert evaluation.per_image.aupimo[:10] == pytest.approx([worths.aupimo(each) for each, _ in counts], abs=1e-3)
    assert np.isnan(evaluation.per_image.pixel_auroc[10:]).all()
    assert np.isnan(evaluation.per_image.aupimo[10:]).all()


def test_means_over_images_and_over_classes_are_means(evaluation: Evaluation) -> None:
    own, aupimo = evaluation.per_image.pixel_auroc[:10], evaluation.per_image.aupimo[:10]
    assert evaluation.pixel["auroc_per_image"] == pytest.approx(own.mean())
    assert evaluation.pixel["aupimo"] == pytest.approx(aupimo.mean())
    dent, scratch = evaluation.per_class["dent"], evaluation.per_class["scratch"]
    assert dent["pixel"]["auroc_per_image"] == pytest.approx(own[:7].mean())
    assert scratch["pixel"]["aupimo"] == pytest.approx(aupimo[7:].mean())
    assert evaluation.class_means == {
        "image_auroc": pytest.approx((dent["image"]["auroc"] + scratch["image"]["auroc"]) / 2),
        "pixel_auroc": pytest.approx((dent["pixel"]["auroc"] + scratch["pixel"]["auroc"]) / 2),
        "aupro": pytest.approx((dent["pixel"]["aupro"] + scratch["pixel"]["aupro"]) / 2),
    }


def test_the_best_f1_of_pixels_is_that_of_all_pixels_together(
    evaluation: Evaluation, model: blemish.Model, dataset: Dataset
) -> None:
    maps = [prediction.map for prediction in model.judge([sample.path for sample in dataset.test])]
    masks = np.stack([read_truth(sample, model.recipe.geometry) for sample in dataset.test])
    precision, recall, _ = precision_recall_curve(masks.ravel(), np.stack(maps).ravel())
    best = np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12))
    assert evaluation.pixel["f1_max"] == pytest.approx(best, abs=1e-3)


def test_intervals_surround_their_figures_and_json_holds_them(evaluation: Evaluation) -> None:
    told = json.loads(json.dumps(evaluation.as_dict(), allow_nan=False))
    figures = {
        "image_auroc": evaluation.image["auroc"],
        "pixel_auroc": evaluation.pixel["auroc"],
        "pixel_auroc_per_image": evaluation.pixel["auroc_per_image"],
        "aupro": evaluation.pixel["aupro"],
        "aupimo": evaluation.pixel["aupimo"],
    }
    assert set(told["intervals"]) == set(figures)
    for name, bounds in told["intervals"].items():
        assert bounds["low"] <= figures[name] <= bounds["high"]
        assert bounds["images"] == (10 if name in {"pixel_auroc_per_image", "aupimo"} else 120)
    assert told["class_means"] == evaluation.class_means


def test_an_evaluation_without_masks_or_with_few_images_has_what_is_left(model: blemish.Model, tree: Path) -> None:
    whole = read_source(tree)
    few = blemish.evaluate(model, whole)
    assert few.pixel["auroc_per_image"] is not None
    assert few.pixel["aupimo"] is None, "five good images at 64² do not resolve its range"
    assert set(few.intervals.values()) == {None}, "with five images of a class nothing can be told"
    bare = blemish.evaluate(model, replace(whole, has_masks=False))
    assert set(bare.pixel.values()) == {None}
    assert set(bare.intervals) == {"image_auroc"}
    assert bare.class_means["aupro"] is None


def test_the_figures_of_each_image_are_written_as_csv(evaluation: Evaluation, tmp_path: Path) -> None:
    write_image_figures([("parts", evaluation)], tmp_path / "images.csv")
    with (tmp_path / "images.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == list(evaluation.per_image.names)
    assert float(rows[0]["pixel_auroc"]) == evaluation.per_image.pixel_auroc[0]
    assert float(rows[0]["aupimo"]) == evaluation.per_image.aupimo[0]
    assert (rows[-1]["class"], rows[-1]["pixel_auroc"], rows[-1]["aupimo"]) == ("good", "", "")
    assert {row["model"] for row in rows} == {"parts"}
    assert float(rows[-1]["score"]) == evaluation.results[-1][1].score


def test_two_evaluations_on_the_same_images_are_compared_figure_by_figure(evaluation: Evaluation) -> None:
    found = compared(evaluation, evaluation)
    assert {each.figure for each in found} == set(evaluation.intervals)
    assert all(each.difference == 0 and each.verdict == "not known" for each in found)
