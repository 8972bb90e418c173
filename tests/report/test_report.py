from __future__ import annotations

import base64
import io
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import blemish
from blemish.maps import heat_map, in_view, overlay
from blemish.maps.pictures import OUTLINE
from blemish.model.picture import drawn
from blemish.report import write_report
from blemish.results import write_results
from browser import open_page


@pytest.fixture(scope="module")
def page(model: blemish.Model, tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(model, blemish.evaluate(model, tree), path)
    return path


def content(page: Path, name: str) -> Any:
    """The JSON in a page: its `data`, or its `pictures` by their names."""
    (found,) = re.findall(f'id="{name}">(.*?)</script>', page.read_text())
    return json.loads(found)


def test_the_page_holds_all_it_shows(page: Path) -> None:
    text = page.read_text()
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)", text), "nothing is loaded from elsewhere"
    assert text.count("<svg") == 5, "histograms of scores and of p-values, ROC, precision and recall, PRO"
    assert "All 10 images" in text
    assert "scratch" in text
    assert len(content(page, "pictures")) == 20, "ten images with their heat maps"
    assert sorted(path.name for path in page.parent.iterdir()) == ["report.html"], "small pictures need no folder"


def test_the_page_shows_the_figures_of_the_evaluation(page: Path, model: blemish.Model) -> None:
    text = page.read_text()
    assert "<b>100.00</b><span>image AUROC" in text
    assert f"{model.threshold:.4g}" in text
    assert "detected: 5 of 5" in text
    assert "pixel AUROC, mean over images" in text


def test_the_page_compares_rates_and_boxes_and_says_whose_threshold_it_is(
    page: Path, model: blemish.Model, tree: Path, tmp_path: Path
) -> None:
    text = " ".join(page.read_text().split())
    assert "for a false-alarm rate of at most 4.00 %, comes from 24 good images, each scored" in text
    assert f"<tr><td>10</td><td>{model.at(false_alarm_rate=0.1).threshold:.4g}</td>" in text
    assert f"A box encloses each part of a map above {model.calibration.box_level:.4g}." in text
    overlap = blemish.evaluate(model, tree).boxes["overlaps"][0]
    assert f"<tr><td>0.3</td><td>{overlap['matched']}</td><td>{100 * overlap['precision']:.2f}</td>" in text
    by_hand = model.at(threshold=1e6, box_rate=0.95)
    write_report(by_hand, blemish.evaluate(by_hand, tree), tmp_path / "r.html")
    text = " ".join((tmp_path / "r.html").read_text().split())
    assert (
        "The threshold 1e+06 was given. By the scores of 24 good images, its false-alarm rate is at most 4.00 %" in text
    )
    assert "at most 95.00 % of good images show a box" in text


def test_boxes_are_drawn_on_the_pictures_of_predictions(model: blemish.Model, tree: Path) -> None:
    defect = tree / "test" / "scratch" / "000.png"
    (found,) = model.predict(defect)
    assert found.map is not None
    for longest, side in ((None, 64), (1024, 96), (48, 48)):
        picture = drawn(model, defect, found.map, longest)
        assert picture.shape == (side, side, 3)
        (box, *_) = in_view(model.boxes(found.map), found.map.shape, picture.shape)
        for row, column in ((box.top - 1, box.left - 1), (box.bottom, box.right)):
            assert tuple(picture[row, column]) == OUTLINE


def test_names_from_the_data_are_text_in_the_page_not_markup(model: blemish.Model, tree: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(tree, tmp_path / "t"))
    (root / "test" / "scratch").rename(root / "test" / "<b onclick=x>")
    (root / "ground_truth" / "scratch").rename(root / "ground_truth" / "<b onclick=x>")
    write_report(model, blemish.evaluate(model, root), tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    assert "<b onclick" not in text
    assert "&lt;b onclick=x&gt;" in text


def test_a_report_without_good_or_without_masks_is_still_a_page(
    model: blemish.Model, tree: Path, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(tree, tmp_path / "t"))
    shutil.rmtree(root / "test" / "good")
    shutil.rmtree(root / "ground_truth")
    write_report(model, blemish.evaluate(model, root), tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    assert text.count("<svg") == 1, "no curves without good images"
    assert "There are no masks" in text
    assert "marked-outlines" not in text.split("<body")[1].split("<script")[0]
    assert "pixel AUROC, %" not in text


@pytest.fixture
def shown(page: Path) -> Iterator[Any]:
    with open_page(page) as opened:
        yield opened


def test_moving_the_threshold_changes_rates_line_dot_and_verdicts(shown: Any, model: blemish.Model) -> None:
    def state() -> tuple[str, ...]:
        return (
            shown.locator("#rates-0").text_content(),
            shown.locator("#line-0").get_attribute("x1"),
            shown.locator("#marker-0").get_attribute("cy"),
            shown.locator(".verdict").all_text_contents().count("judged anomalous"),
        )

    calibrated = state()
    assert calibrated[0].startswith(f"{model.threshold:.4g}: false alarms 0 of 5 (0.00 %), detected 5 of 5 (100.00 %)")
    assert calibrated[3] == 5
    slider = shown.locator("#threshold-0")
    slider.fill("0")
    low = state()
    assert "false alarms 4 of 5 (80.00 %), detected 5 of 5" in low[0], "all but the lowest score lie above it"
    slider.fill("1000")
    high = state()
    assert "false alarms 0 of 5 (0.00 %), detected 0 of 5 (0.00 %)" in high[0]
    assert high[3] == 0
    assert float(low[1]) < float(calibrated[1]) < float(high[1])
    assert float(calibrated[2]) < float(high[2]), "further down where less is detected"
    slider.focus()
    shown.keyboard.press("ArrowLeft")
    assert state()[0] != high[0], "the keyboard moves it too"
    shown.click("#calibrated-0")
    assert state() == calibrated


def test_the_gallery_is_sorted_and_filtered_and_blends_the_heat_map(shown: Any) -> None:
    def scores() -> list[float]:
        tiles = shown.locator(".tile:visible")
        return [float(tile.get_attribute("data-score")) for tile in tiles.all()]

    assert scores() == sorted(scores(), reverse=True)
    assert len(scores()) == 10
    shown.select_option("#order", "rising")
    assert scores() == sorted(scores())
    shown.select_option("#label", "good")
    assert len(scores()) == 5
    assert shown.locator("#shown").text_content() == "5 of 10 images"
    shown.select_option("#verdict", "anomalous")
    assert scores() == []
    shown.select_option("#label", "kind:scratch")
    assert len(scores()) == 5
    shown.fill("#search", "SCRATCH/003")
    assert [tile.get_attribute("data-name") for tile in shown.locator(".tile").all()] == ["scratch/003.png"]
    shown.fill("#search", "")
    shown.select_option("#verdict", "missed")
    assert scores() == []
    shown.locator("#threshold-0").fill("1000")
    assert len(scores()) == 5, "with the highest threshold all are missed"
    heat = shown.locator(".heat").first
    assert heat.evaluate("image => getComputedStyle(image).opacity") == "0.5"
    shown.locator("#blend").fill("0")
    assert heat.evaluate("image => getComputedStyle(image).opacity") == "0"


def test_every_control_has_a_name_and_every_picture_a_text(shown: Any) -> None:
    for control in shown.locator("input, select, button").all():
        named = "e => e.labels?.length || e.getAttribute('aria-label') || e.textContent.trim()"
        assert control.evaluate(named), control.evaluate("e => e.outerHTML")
    assert shown.locator("img:not([alt]), img[alt='']").count() == 0
    assert shown.locator("svg[role=img][aria-label]").count() == 5
    assert shown.locator("svg:not([role=img], [aria-hidden=true])").count() == 0


def test_an_image_is_enlarged_in_its_own_proportions_and_the_keys_walk_through_all(shown: Any) -> None:
    first = shown.locator(".tile .open").first
    first.focus()
    shown.keyboard.press("Enter")
    name = shown.locator("#large-name")
    assert name.text_content() == "scratch/" + name.text_content().split("/")[1]
    assert shown.locator("#large .view").count() == 2, "the photograph, and the map over it"
    box = shown.locator("#large .view").first.bounding_box()
    assert abs(box["width"] - box["height"]) < 1
    seen = [name.text_content()]
    for _ in range(9):
        shown.keyboard.press("ArrowRight")
        seen.append(name.text_content())
    assert len(set(seen)) == 10
    assert shown.locator("#next").get_attribute("aria-disabled") == "true"
    shown.keyboard.press("Home")
    assert name.text_content() == seen[0]
    shown.keyboard.press("Escape")
    assert not shown.locator("#large").is_visible()
    assert first.evaluate("tile => tile === document.activeElement"), "the focus is where it was"


def test_marks_and_findings_are_drawn_in_the_images_own_pixels_and_can_be_hidden(shown: Any, page: Path) -> None:
    defect = next(image for image in content(page, "data")["images"] if image["name"] == "scratch/000.png")
    ((left, top, width, height),) = defect["boxes"]
    assert (width, height) == (9, 16), "as the mask was made"
    tile = shown.locator(".tile", has_text="scratch/000.png")
    assert tile.locator("svg").get_attribute("viewBox") == "0 0 96 96"
    marked = tile.locator("path.marked").evaluate(
        "path => { const b = path.getBBox(); return [b.x, b.y, b.width, b.height]; }"
    )
    assert marked == [left, top, width, height]
    assert tile.locator("rect.found").count() == len(defect["models"][0]["boxes"]) >= 1
    shown.get_by_label("boxes found").uncheck()
    assert not tile.locator("rect.found").first.is_visible()
    assert not tile.locator("rect.marked").first.is_visible()
    shown.get_by_label("their boxes").check()
    assert tile.locator("rect.marked").first.is_visible()


@pytest.mark.parametrize("width", [360, 1200])
def test_the_page_fits_a_phone_and_a_desk_without_scrolling_sideways(page: Path, width: int) -> None:
    with open_page(page, width, 800) as shown:
        assert shown.evaluate("document.documentElement.scrollWidth") <= width
        picture = np.asarray(Image.open(io.BytesIO(shown.screenshot(full_page=True))).convert("RGB"))
    assert (picture != 255).any(axis=2).mean() > 0.1, "more than an empty page"


def test_printed_it_has_no_controls_and_keeps_its_colours(shown: Any) -> None:
    shown.emulate_media(media="print")
    assert not shown.locator(".controls").first.is_visible()
    assert shown.locator(".gallery").is_visible()
    assert shown.evaluate("getComputedStyle(document.body).printColorAdjust") == "exact"


def test_scores_over_decades_are_drawn_on_a_logarithmic_axis() -> None:
    from blemish.report.drawing import Axis

    axis = Axis(10, 1000, 0, 100, logarithmic=True)
    assert axis.place(100) == 50
    assert [label for _, label in axis.ticks()] == ["10", "20", "50", "100", "200", "500", "1000"]
    assert [label for _, label in Axis(-0.2, 1.1, 0, 100).ticks()] == ["-0.2", "0", "0.2", "0.4", "0.6", "0.8", "1"]


def test_colours_are_on_one_fixed_scale_from_dark_to_bright() -> None:
    values = np.array([[-5.0, 0.0, 5.0, 10.0, 50.0]], np.float32)
    colours = heat_map(values, (0.0, 10.0))[0].astype(int)
    assert colours.shape == (5, 3)
    assert (colours[0] == colours[1]).all()
    assert (colours[3] == colours[4]).all()
    brightness = colours.sum(1)
    assert brightness[1] < 10 < brightness[2] < brightness[3]


def test_the_colours_are_infernos() -> None:
    from matplotlib import colormaps

    steps = np.linspace(0, 1, 256, dtype=np.float32)
    wanted = 255 * colormaps["inferno"](steps)[:, :3]
    assert np.abs(heat_map(steps[None], (0.0, 1.0))[0] - wanted).max() < 8


def test_an_overlay_is_half_image_half_heat() -> None:
    image = np.full((4, 4, 3), 200, np.uint8)
    values = np.zeros((4, 4), np.float32)
    assert np.array_equal(
        overlay(image, values, (0.0, 1.0)), (0.5 * image + 0.5 * heat_map(values, (0.0, 1.0))).round()
    )
    assert np.array_equal(overlay(image, values, (0.0, 1.0), alpha=0), image)


def test_heat_maps_have_the_proportions_of_the_image_not_of_the_models_input(
    long_model: blemish.Model, model: blemish.Model, long_tree: Path, tmp_path: Path
) -> None:
    part = long_tree / "test" / "scratch"
    for used, folder, shape in ((long_model, "own", (35, 88)), (model, "square", (40, 101))):
        list(write_results(used, used.predict(part), tmp_path / folder, "heat"))
        assert np.asarray(Image.open(tmp_path / folder / "maps" / "000.png")).shape == (*shape, 3), folder
    write_report(model, blemish.evaluate(model, long_tree), tmp_path / "r.html")
    shown = content(tmp_path / "r.html", "data")["images"][0]
    assert shown["size"] == [60, 150]
    pictures = content(tmp_path / "r.html", "pictures")
    photograph, heat = (
        Image.open(io.BytesIO(base64.b64decode(pictures[name])))
        for name in (shown["picture"], shown["models"][0]["heat"])
    )
    assert photograph.size == (150, 60)
    assert heat.size == (64, 64), "the page stretches it over the photograph"
