from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import blemish
from blemish.datasets import Sample, read_source
from blemish.errors import SettingError
from blemish.maps import overlay
from blemish.maps.pictures import GAP
from blemish.report.reconstructions import (
    FIGURES,
    FOUND,
    ROWS,
    SIDE,
    TRUE,
    correlation_curves,
    loss_curves,
    reconstructions,
)


@pytest.fixture(scope="module")
def anomalous(tree: Path) -> list[Sample]:
    return [sample for sample in read_source(tree, 0).test if sample.is_anomalous][:2]


def tile(sheet: np.ndarray, row: int, column: int) -> np.ndarray:
    top, left = GAP + row * (SIDE + GAP), GAP + column * (SIDE + GAP)
    return sheet[top : top + SIDE, left : left + SIDE]


def test_each_image_has_a_column_with_the_rows_that_were_asked_for(
    vae_model: blemish.Model, anomalous: list[Sample]
) -> None:
    rows = ("image", "marked", "map", "segmentation", "truth", "boxes")
    sheet = reconstructions(vae_model, anomalous, rows)
    assert sheet.shape[1] == GAP + 2 * (SIDE + GAP)
    explanation = vae_model.explain(anomalous[1].path)
    image, marked, shown, segmented, truth, boxed = (tile(sheet, row, 1) for row in range(len(rows)))
    assert (truth.min(), truth.max()) == (0, 255)
    # The scratch is black in the image, where the mask is white.
    assert image[(truth == 255).all(2)].mean() < 40 < image[(truth == 0).all(2)].mean()
    assert explanation.reconstruction is not None
    wanted = overlay(explanation.reconstruction, explanation.map, explanation.display)
    assert abs(float(shown.mean()) - float(wanted.mean())) < 1
    above = explanation.map > vae_model.calibration.box_level
    assert float(segmented.mean()) / 255 == pytest.approx(float(above.mean()), abs=0.02)
    for picture, has_found in ((marked, False), (boxed, bool(explanation.boxes))):
        assert (picture == TRUE).all(2).any()
        assert (picture == FOUND).all(2).any() == has_found


def test_boxes_that_were_found_are_red(vae_model: blemish.Model, anomalous: list[Sample]) -> None:
    eager = vae_model.at(box_rate=0.95)
    assert any(eager.explain(sample.path).boxes for sample in anomalous)
    assert (reconstructions(eager, anomalous, ["boxes"]) == FOUND).all(2).any()


def test_the_papers_figures_have_three_rows_each() -> None:
    assert all(len(rows) == 3 and set(rows) <= set(ROWS) for rows in FIGURES.values())
    assert all(rows[1] == "map" for rows in FIGURES.values())


def test_other_detectors_other_rows_and_no_images_are_refused(
    vae_model: blemish.Model, model: blemish.Model, anomalous: list[Sample]
) -> None:
    with pytest.raises(SettingError, match="reconstructs no images; give a model of vae or vae-grf"):
        reconstructions(model, anomalous, ["map"])
    with pytest.raises(SettingError, match="no row is called 'heat'; give some of image, marked"):
        reconstructions(vae_model, anomalous, ["image", "heat"])
    with pytest.raises(SettingError, match="0 images in 1 rows cannot be shown"):
        reconstructions(vae_model, [], ["image"])


def test_a_loss_is_drawn_by_epoch_and_a_column_that_is_not_there_is_refused(tmp_path: Path) -> None:
    lines = [f'{{"step": {step}, "epoch": {step // 2}, "seconds": 1.0, "loss": {9 - step}}}' for step in range(6)]
    (tmp_path / "log.jsonl").write_text("\n".join(lines) + "\n")
    one = loss_curves({"VAE": tmp_path}, "loss")
    assert not np.array_equal(one, loss_curves({"VAE": tmp_path, "again": tmp_path}, "loss"))
    with pytest.raises(SettingError, match="its log has no 'elbo'; it has loss"):
        loss_curves({"VAE": tmp_path})


def test_the_correlations_are_drawn_from_one_at_no_distance() -> None:
    assert not np.array_equal(correlation_curves(), correlation_curves(5.0))


def test_an_image_without_a_mask_has_no_true_box(vae_model: blemish.Model, anomalous: list[Sample]) -> None:
    unmarked = [replace(sample, mask=None) for sample in anomalous]
    assert not (reconstructions(vae_model, unmarked, ["marked"]) == TRUE).all(2).any()
