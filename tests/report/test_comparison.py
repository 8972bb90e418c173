from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from blemish.datasets import read_source
from blemish.evaluation.compare import Compared, Comparison, Detection
from blemish.report import write_comparison
from blemish.report.comparison import _free, _meet
from browser import open_page


def row(detector: str, quality: str | None, seconds: float, auroc: float | None, size: int = 10**7) -> Compared:
    found = Detection(auroc, 0.98, None, 0.05, 0.9, 0)
    network = "tf_efficientnet_lite0"
    return Compared(detector, quality, network, (160, 416), 0, 2.0, seconds, size, 24, 10, 0.04, found)


@pytest.fixture
def comparison(tree: Path) -> Comparison:
    rows = [
        row("fre", "fast", 0.004, 0.99, 4 * 10**7),
        row("fre", "best", 0.0161, 0.9987, 2 * 10**8),
        row("gaussian", "balanced", 0.0041, 0.9901),
        row("vae", None, 0.01, 0.93),
    ]
    return Comparison(read_source(tree), rows)


def test_the_page_holds_all_it_shows_and_marks_the_best(comparison: Comparison, tmp_path: Path) -> None:
    write_comparison(comparison, tmp_path / "c.html")
    text = (tmp_path / "c.html").read_text()
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)", text), "nothing is loaded from elsewhere"
    assert re.findall(r'class="best">([^<]*)<', text) == ["4.0", "99.87", "10.0", "10.0"]
    assert "160 × 416" in text
    assert "24 in 10 folds" in text
    assert text.count("<circle") == 4


def test_without_labels_the_page_says_what_is_missing_and_draws_nothing(comparison: Comparison, tmp_path: Path) -> None:
    rows = [replace(own, detection=None) for own in comparison.rows]
    write_comparison(Comparison(replace(comparison.dataset, test=[]), rows), tmp_path / "c.html")
    text = (tmp_path / "c.html").read_text()
    assert "No labelled images, so only time and size can be compared" in text
    assert "AUROC" not in text
    assert "<svg" not in text


def test_a_figure_that_is_undefined_is_a_dash_and_its_model_is_not_drawn(
    comparison: Comparison, tmp_path: Path
) -> None:
    write_comparison(replace(comparison, rows=[*comparison.rows, row("hfr", "fast", 0.01, None)]), tmp_path / "c.html")
    text = (tmp_path / "c.html").read_text()
    assert ">–<" in text
    assert text.count("<circle") == 4


def test_names_stay_off_each_other_and_off_the_points() -> None:
    taken = [(300.0, 100.0, 6.0, 6.0), (305.0, 101.0, 6.0, 6.0)]
    boxes = [(300.0, 100.0, 6.0, 6.0), (305.0, 101.0, 6.0, 6.0)]
    for x, y, *_ in boxes:
        box = _free(x, y, 50, taken)
        assert not any(_meet(box, other) for other in taken)
        taken.append(box)


@pytest.mark.parametrize("width", [1200, 390])
def test_the_page_fits_a_screen_and_a_phone(comparison: Comparison, tmp_path: Path, width: int) -> None:
    write_comparison(comparison, tmp_path / "c.html")
    with open_page(tmp_path / "c.html", width) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        if width == 1200:
            assert page.evaluate("(e => e.scrollWidth - e.clientWidth)(document.querySelector('.wide'))") == 0
