"""Tables and curves of evaluations, and pages of several models."""

from __future__ import annotations

import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import precision_recall_curve, roc_curve

import blemish
from blemish.errors import SettingError, StorageError
from blemish.evaluation import Evaluation
from blemish.report import write_curves, write_report, write_table
from blemish.report.figures import names_of
from blemish.report.outlines import outline
from browser import open_page

AWKWARD = "</script><b onclick=x>&\udcff"
"""A name that would end a script, be an element, and cannot be written in UTF-8."""


@pytest.fixture(scope="module")
def root(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small tree with an image that cannot be read, a wide one, and a class with an awkward name."""
    root = Path(shutil.copytree(tree, tmp_path_factory.mktemp("several") / "parts"))
    (root / "test" / "good" / "broken.png").write_bytes(b"no image")
    wide = root / "test" / "good" / "wide.png"
    Image.open(root / "test" / "good" / "000.png").resize((192, 48)).save(wide)
    for folder in ("test", "ground_truth"):
        (root / folder / "scratch").rename(root / folder / AWKWARD.replace("/", ""))
    return root


@pytest.fixture(scope="module")
def judged(saved: Path, small: Path, root: Path) -> list[tuple[blemish.Model, Evaluation]]:
    models = [blemish.load(str(saved)), blemish.load(str(small))]
    return [(model, blemish.evaluate(model, root)) for model in models]


@pytest.fixture(scope="module")
def page(judged: list[tuple[blemish.Model, Evaluation]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page #1 ü") / "both 50%.html"
    write_report(*judged[0], path, others=judged[1:], pictures="beside")
    return path


def test_an_evaluation_names_the_saved_model_and_what_computed(
    judged: list[tuple[blemish.Model, Evaluation]], saved: Path, model: blemish.Model, root: Path
) -> None:
    told = json.loads(json.dumps(judged[0][1].as_dict()))
    assert told["model"]["path"] == str(saved)
    assert told["model"]["digest"] == json.loads((saved / "model.json").read_text())["digest"]
    assert (told["model"]["detector"], told["model"]["seed"]) == ("fre", 0)
    assert told["model"]["settings"] == json.loads(json.dumps(model.recipe.settings))
    assert told["data"]["source"] == str(root)
    assert {"python", "blemish", "openvino"} <= set(told["versions"])
    assert replace(judged[0][1].origin).path is not None
    in_memory = blemish.evaluation.Origin.of(model)
    assert (in_memory.path, in_memory.digest) == (None, None)


def test_a_table_has_a_row_for_each_model_in_csv_and_latex(
    judged: list[tuple[blemish.Model, Evaluation]], tmp_path: Path
) -> None:
    named = [("first_one", judged[0][1]), ("=second", judged[1][1])]
    write_table(named, tmp_path / "t.csv")
    rows = list(csv.DictReader((tmp_path / "t.csv").read_text().splitlines()))
    assert [row["model"] for row in rows] == ["first_one", "'=second"], "not a formula"
    assert float(rows[1]["pixel AUROC"]) == pytest.approx(100 * (judged[1][1].pixel["auroc"] or 0), rel=1e-5)
    assert "AUPIMO" not in rows[0], "undefined for both"
    write_table(named, tmp_path / "t.tex")
    text = (tmp_path / "t.tex").read_text()
    assert r"first\_one & 100.00 &" in text
    assert r"\toprule" in text
    with pytest.raises(SettingError, match=r"tables end in .csv, .tex, .md"):
        write_table(named, tmp_path / "t.xlsx")
    with pytest.raises(StorageError, match="--force"):
        write_table(named, tmp_path / "t.csv")


def test_curves_are_points_and_drawings_of_every_model(
    judged: list[tuple[blemish.Model, Evaluation]], tmp_path: Path
) -> None:
    named = [(f"<{number}>", found) for number, (_, found) in enumerate(judged)]
    files = write_curves(named, tmp_path / "curves")
    kinds = ("image_pr", "image_roc", "pixel_pr", "pixel_roc", "pro")
    assert files == sorted(["figures.csv", *(f"{kind}.{end}" for kind in kinds for end in ("csv", "svg"))])
    for kind in kinds:
        drawing = ElementTree.parse(tmp_path / "curves" / f"{kind}.svg").getroot()  # noqa: S314 - our own
        assert len(drawing.findall("{*}polyline")) == 2
        assert "<1>" in [text.text for text in drawing.findall("{*}text")]
    labels = [sample.is_anomalous for sample, _ in judged[1][1].results]
    scores = [prediction.score for _, prediction in judged[1][1].results]
    rows = [
        row for row in csv.reader((tmp_path / "curves" / "image_roc.csv").read_text().splitlines()) if row[0] == "<1>"
    ]
    points = np.array([row[1:] for row in rows], float).T
    assert np.allclose(points, roc_curve(labels, scores, drop_intermediate=False)[:2])
    rows = [
        row for row in csv.reader((tmp_path / "curves" / "image_pr.csv").read_text().splitlines()) if row[0] == "<1>"
    ]
    precision, recall, _ = precision_recall_curve(labels, scores)
    assert np.allclose(np.array([row[1:] for row in rows], float), np.stack([recall, precision], 1)[-2::-1])


def test_models_of_one_name_are_told_apart(judged: list[tuple[blemish.Model, Evaluation]]) -> None:
    found = judged[0][1]

    def at(*paths: str | None) -> list[str]:
        return names_of([replace(found, origin=replace(found.origin, path=path)) for path in paths])

    assert at("a/x.blemish", "b/y.blemish/") == ["x", "y"]
    assert at("a/x.blemish", "b/x.blemish") == ["a/x", "b/x"]
    assert at("a/x.blemish", "a/x.blemish") == ["a/x (1)", "a/x (2)"]
    assert at(None, None) == ["fre (1)", "fre (2)"]


def test_an_outline_runs_around_what_is_marked() -> None:
    mask = np.zeros((6, 8), bool)
    mask[2:4, 1:5] = True
    mask[5, 7] = True
    found = outline(mask)
    assert found.grid == (8, 6)
    runs = re.findall(r"M(\d+) (\d+)([hv])(\d+)", found.path)
    square = {("1", "2", "h", "4"), ("1", "4", "h", "4"), ("1", "2", "v", "2"), ("5", "2", "v", "2")}
    corner = {("7", "5", "h", "1"), ("7", "6", "h", "1"), ("7", "5", "v", "1"), ("8", "5", "v", "1")}
    assert set(runs) == square | corner
    assert outline(np.zeros((4, 4), bool)).path == ""
    coarse = outline(mask, 4)
    assert coarse.grid == (4, 4)
    assert coarse.path, "a small part is not lost"


def test_pictures_beside_the_page_are_replaced_with_it_and_never_what_is_not_blemishs(
    judged: list[tuple[blemish.Model, Evaluation]], tmp_path: Path
) -> None:
    page, folder = tmp_path / "r.html", tmp_path / "r_files"
    write_report(*judged[0], page, pictures="beside")
    names = {path.name for path in folder.iterdir()}
    assert names == {"blemish.json", *(f"{n:05d}{end}.jpg" for n in range(11) for end in ("", "-1"))}
    with pytest.raises(StorageError, match="--force"):
        write_report(*judged[0], page)
    write_report(*judged[0], page, force=True)
    assert not folder.exists(), "these are small enough to be in the page"
    write_report(*judged[0], page, pictures="beside", force=True)
    (folder / "mine.txt").touch()
    with pytest.raises(StorageError, match=r"mine.txt, which blemish did not write"):
        write_report(*judged[0], page, force=True)
    with pytest.raises(SettingError, match="give one of auto, embed, beside"):
        write_report(*judged[0], tmp_path / "other.html", pictures="none")


def test_models_that_saw_other_images_are_refused(
    judged: list[tuple[blemish.Model, Evaluation]], model: blemish.Model, tree: Path, tmp_path: Path
) -> None:
    with pytest.raises(SettingError, match="are not the same"):
        write_report(*judged[0], tmp_path / "r.html", others=[(model, blemish.evaluate(model, tree))])
    assert list(tmp_path.iterdir()) == []


def test_a_page_of_two_models_shows_both_maps_of_each_image_and_where_verdicts_differ(
    page: Path, judged: list[tuple[blemish.Model, Evaluation]]
) -> None:
    first, second = ([bool(found.is_anomaly) for _, found in one.results] for _, one in judged)
    text = page.read_text()
    assert "<b onclick" not in text
    assert "broken.png" in text
    with open_page(page) as shown:
        assert shown.locator("tbody tr", has_text="parts").count() >= 2
        assert " minus small0/parts" in shown.locator("h3").first.text_content()
        tile = shown.locator(".tile").first
        assert tile.locator("img.heat").count() == 2
        assert tile.locator("img").count() == 5, "the photograph alone, and under each map"
        wide = shown.locator(".tile", has_text="wide.png").locator(".view").first.bounding_box()
        assert wide["width"] / wide["height"] == pytest.approx(4, rel=0.05)
        assert loaded(shown) == 55
        shown.select_option("#verdict", "differ")
        assert shown.locator(".tile").count() == np.not_equal(first, second).sum()
        shown.locator("#threshold-1").fill("1000")
        assert shown.locator(".tile").count() == sum(first) >= 5, "now anomalous by the first model alone"
        shown.select_option("#verdict", "all")
        shown.select_option("#label", index=3)
        assert shown.locator(".tile").count() == 5, "the class with the awkward name"


def loaded(shown: Any) -> int:
    """How many pictures of the gallery have loaded, after all are asked for."""
    shown.evaluate("document.querySelectorAll('.gallery img').forEach(image => { image.loading = 'eager'; })")
    shown.wait_for_function("[...document.querySelectorAll('.gallery img')].every(image => image.complete)")
    return int(shown.evaluate("[...document.querySelectorAll('.gallery img')].filter(i => i.naturalWidth > 0).length"))


def test_thousands_of_images_are_drawn_as_they_are_scrolled_to(page: Path) -> None:
    def copied(match: re.Match[str]) -> str:
        data = json.loads(match[1])
        images = data["images"]
        data["images"] = [{**images[n % len(images)], "name": f"part/{n:04d}.png"} for n in range(2000)]
        return 'id="data">' + json.dumps(data).replace("<", "\\u003c") + "</script>"

    many = page.with_name("many.html")
    many.write_text(re.sub(r'id="data">(.*?)</script>', copied, page.read_text()))
    with open_page(many) as shown:
        assert shown.locator("#shown").text_content() == "2000 of 2000 images"
        drawn = shown.locator(".tile").count()
        assert drawn < 500
        shown.locator("#more button").click()
        assert shown.locator(".tile").count() > drawn
        shown.fill("#search", "part/1999")
        assert shown.locator(".tile").count() == 1
