from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import blemish
from blemish.report import heat_map, overlay, write_report


@pytest.fixture(scope="module")
def page(model: blemish.Model, tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(model, blemish.evaluate(model, tree), path)
    return path


def test_the_page_holds_all_it_shows(page: Path) -> None:
    text = page.read_text()
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)", text), "nothing is loaded from elsewhere"
    assert text.count("<svg") == 2, "histogram and ROC"
    assert "Highest scores" in text
    assert "scratch" in text
    assert text.count("data:image/jpeg") >= 20, "ten images with their heat maps"


def test_the_page_shows_the_figures_of_the_evaluation(page: Path, model: blemish.Model) -> None:
    text = page.read_text()
    assert "<b>100.00</b><span>image AUROC" in text
    assert f"{model.threshold:.4g}" in text
    assert "detected: 5 of 5" in text


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
    assert text.count("<svg") == 1, "no ROC without good images"
    assert "pixel AUROC, %" not in text


def test_a_browser_shows_the_page_without_an_error(page: Path, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium on this machine; apt-get install chromium")
    picture = tmp_path / "page.png"
    done = subprocess.run(
        [
            browser,
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"),
            *("--enable-logging=stderr", "--v=0", f"--user-data-dir={tmp_path / 'profile'}"),
            *(f"--screenshot={picture}", "--window-size=1000,2000", page.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert picture.is_file(), done.stderr
    assert "CONSOLE" not in done.stderr, done.stderr
    shown = np.asarray(Image.open(picture).convert("RGB"))
    assert (shown != 255).any(axis=2).mean() > 0.1, "more than an empty page"


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
