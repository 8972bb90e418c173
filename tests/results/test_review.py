from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from by_hand import FIRST, SECOND, made_up_model, predicted
from PIL import Image

from blemish.datasets import read_source
from blemish.errors import SettingError, SourceError
from blemish.results import read_review, write_results, write_tree
from blemish.results.reviewed import Reviewed
from browser import chromium, watched

NAMES = ("a/0.png", "a/1.png", "b/0.png", "b/<img src=x onerror=alert(1)>.png")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("images")


@pytest.fixture(scope="module")
def out(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two anomalous images by the model, the first with two boxes; two good ones; one that could not be read."""
    folder = tmp_path_factory.mktemp("out") / "out"
    found = [
        predicted(images / NAMES[0], 50.0, (FIRST, SECOND)),
        predicted(images / NAMES[1], 40.0, (FIRST,)),
        predicted(images / NAMES[2], 3.0),
        predicted(images / NAMES[3], 2.0),
        predicted(images / "bad.png", 0.0, error="is empty"),
    ]
    list(write_results(made_up_model(), found, folder, "none", sources=[images], review=True))
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as running:
        yield running


@pytest.fixture
def page(browser: Any, out: Path) -> Iterator[Any]:
    context = browser.new_context(accept_downloads=True)
    with watched(context, (out / "review.html").as_uri(), (out.as_uri() + "/", "blob:")) as opened:
        yield opened
    context.close()


def press(page: Any, keys: str) -> None:
    for key in keys.split():
        page.keyboard.press(key)


def saved(page: Any, path: Path) -> Path:
    with page.expect_download() as download:
        page.keyboard.press("s")
    download.value.save_as(path)
    return path


def text(page: Any, name: str) -> str:
    return str(page.locator(f"#{name}").text_content())


def test_the_page_shows_one_image_with_its_boxes_and_loads_no_other_but_the_next_two(page: Any, out: Path) -> None:
    assert text(page, "verdict") == "Model: anomalous. Do you agree?"
    assert text(page, "progress") == "0 of 4 reviewed"
    assert "1 of 4 · a/0.png · score 50.000, threshold 19.002, p-value 0.050" in text(page, "about")
    assert page.locator(".box").count() == 2
    assert page.locator("#picture img").count() == 2, "the photograph, and the colours over it"
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth)")
    assert "1 image could not be read" in text(page, "unreadable")
    with Image.open(out / "review" / "a" / "0.jpg") as photograph:
        assert photograph.size == (200, 100)
    assert not (out / "review" / "b" / "0.png").exists(), "a map like that of good images has no colours"


def test_everything_is_done_by_keys_and_ends_as_a_tree_that_can_be_read(
    page: Any, images: Path, tmp_path: Path
) -> None:
    press(page, "2")
    assert page.locator('.box[aria-pressed="false"]').count() == 1
    press(page, "a")
    assert text(page, "about").startswith("2 of 4 · a/1.png"), "the next one"
    press(page, "r u")
    assert text(page, "about").startswith("2 of 4 · a/1.png"), "undone"
    assert text(page, "progress") == "1 of 4 reviewed"
    press(page, "r a ArrowLeft")
    assert text(page, "verdict") == "Accepted: good"
    press(page, "n h")
    assert page.locator("#heat").get_attribute("aria-pressed") == "false"
    press(page, "a")
    assert text(page, "progress") == "4 of 4 reviewed"
    reviewed = read_review(saved(page, tmp_path / "review.json"))
    assert [(one.name, one.is_anomaly, one.boxes) for one in reviewed] == [
        (NAMES[0], True, ((10, 20, 30, 60),)),
        (NAMES[1], False, ()),
        (NAMES[2], False, ()),
        (NAMES[3], False, ()),
    ]
    made = write_tree(reviewed, tmp_path / "tree", train=0.4)
    assert (made.train, made.good, made.anomalous, made.masks) == (1, 2, 1, 1)
    dataset = read_source(tmp_path / "tree")
    assert (len(dataset.train), len(dataset.test), dataset.has_masks) == (1, 3, True)
    (anomalous,) = [sample for sample in dataset.test if sample.is_anomalous]
    assert anomalous.path.read_bytes() == (images / NAMES[0]).read_bytes()  # type: ignore[union-attr]
    with Image.open(str(anomalous.mask)) as mask:
        marked = np.asarray(mask) > 0
    assert marked.sum() == marked[10:30, 20:60].sum() == 800


def test_a_missed_anomaly_is_marked_by_a_drawn_box(page: Any, tmp_path: Path) -> None:
    page.select_option("#filter", "good")
    press(page, "r")
    assert "no box is accepted: drag on the picture to draw one" in text(page, "say")
    assert text(page, "about").startswith("1 of 2 · b/0.png"), "it stays"
    frame = page.locator("#picture").bounding_box()
    page.mouse.move(frame["x"] + frame["width"] / 4, frame["y"] + frame["height"] / 4)
    page.mouse.down()
    page.mouse.move(frame["x"] + frame["width"] / 2, frame["y"] + frame["height"] / 2)
    page.mouse.up()
    assert page.locator(".box").get_attribute("aria-label") == "box 1, drawn by you"
    (found,) = read_review(saved(page, tmp_path / "review.json"))
    assert found.is_anomaly
    assert np.abs(np.array(found.boxes) - [25, 50, 50, 100]).max() <= 1
    press(page, "1")
    assert page.locator(".box").count() == 0
    with pytest.raises(SourceError, match="1 anomalous image has no accepted box.*--no-masks"):
        write_tree(read_review(saved(page, tmp_path / "bare.json")), tmp_path / "tree")


def test_an_enlarged_picture_shows_its_first_box_and_takes_a_drawn_one_where_it_is(page: Any, tmp_path: Path) -> None:
    before = page.locator("#picture").bounding_box()
    press(page, "z")
    stage, picture = (page.locator(name).bounding_box() for name in ("#stage", "#picture"))
    for length in ("width", "height"):
        assert picture[length] == pytest.approx(4 * before[length], rel=0.05)
    box = page.locator(".box").first.bounding_box()
    for side, length in (("x", "width"), ("y", "height")):
        assert stage[side] <= box[side] + box[length] / 2 <= stage[side] + stage[length]
    places = [(stage["x"] + 20, stage["y"] + 20), (stage["x"] + 120, stage["y"] + 60)]
    page.mouse.move(*places[0])
    page.mouse.down()
    page.mouse.move(*places[1])
    page.mouse.up()
    press(page, "a")
    pixel = 200 / picture["width"]  # the photograph is 200 pixels wide
    wanted = [(place - picture[side]) * pixel for x, y in places for place, side in ((y, "y"), (x, "x"))]
    (found,) = read_review(saved(page, tmp_path / "review.json"))
    assert np.abs(np.array(found.boxes[-1]) - wanted).max() <= 1
    press(page, "z")
    assert page.locator("#picture").bounding_box()["width"] == pytest.approx(before["width"])


def test_what_was_decided_is_there_after_the_page_is_opened_again_and_filters_find_it(page: Any) -> None:
    press(page, "a r")
    for _ in range(20):  # the browser writes it down a moment later
        page.reload()
        if text(page, "progress") == "2 of 4 reviewed":
            break
    assert text(page, "progress") == "2 of 4 reviewed"
    assert text(page, "about").startswith("3 of 4"), "the first that is not reviewed"
    page.select_option("#filter", "changed")
    assert text(page, "verdict") == "Rejected: good"
    page.select_option("#filter", "all")
    page.select_option("#order", "rising")
    assert page.locator("#list button").first.text_content().startswith(NAMES[3]), "a name is text, not markup"
    press(page, "u")
    assert text(page, "progress") == "2 of 4 reviewed", "undo goes back to when the page was opened"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone_and_its_buttons_have_names(browser: Any, out: Path, scheme: str) -> None:
    size = {"width": 360, "height": 700}
    allowed = (out.as_uri() + "/",)
    with watched(browser, (out / "review.html").as_uri(), allowed, viewport=size, color_scheme=scheme) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert page.evaluate("[...document.querySelectorAll('button')].every(b => b.textContent || b.ariaLabel)")
        page.click("#accept")
        assert text(page, "progress") == "1 of 4 reviewed"


def test_a_page_of_ten_thousand_images_has_a_hundred_rows_of_them_at_most(
    browser: Any, out: Path, tmp_path: Path
) -> None:
    before, rows, after = (out / "review.html").read_text().partition('{"name":"a/1.png"')
    row = json.loads((rows + after).split(",\n")[0])
    many = ",\n".join(json.dumps({**row, "name": f"a/{n}.png", "score": n / 100}) for n in range(10_000))
    (tmp_path / "review.html").write_text(before + many + "]</script>" + after.partition("]</script>")[2])
    with watched(
        browser, (tmp_path / "review.html").as_uri(), (tmp_path.as_uri() + "/",), "ERR_FILE_NOT_FOUND"
    ) as page:
        assert text(page, "progress") == "0 of 10001 reviewed"
        press(page, "a a ArrowRight")
        assert page.locator("#list li").count() < 100
        assert text(page, "about").startswith("4 of 10001 · a/9996.png")


def test_an_image_that_was_given_twice_is_on_the_page_once(images: Path, tmp_path: Path) -> None:
    found = [predicted(images / NAMES[0], 50.0, (FIRST,)) for _ in range(3)]
    list(write_results(made_up_model(), found, tmp_path / "out", "none", sources=[images], review=True))
    assert (tmp_path / "out" / "review.html").read_text().count('"name":"a/0.png"') == 1


def test_a_changed_or_odd_file_is_refused_with_its_place(tmp_path: Path) -> None:
    good = {"path": "/a.png", "name": "a.png", "size": [9, 9], "verdict": "good", "boxes": []}
    box = {"top": 1, "left": 1, "bottom": 5, "right": 5, "accepted": True}
    for change, told in (
        ({"size": [0, 9]}, r"images\[0\].size: expected height and width"),
        ({"size": [10**9, 10**9]}, r"images\[0\].size: expected"),
        ({"size": "9x9"}, "size: expected 2 numbers"),
        ({"verdict": "bad"}, "verdict: expected good or anomalous"),
        ({"path": ""}, "path: expected a text"),
        ({"path": "a\0b"}, "path: expected a text"),
        ({"boxes": [{**box, "right": 10}]}, r"boxes\[0\]: expected a box within 9x9 pixels"),
        ({"boxes": [{**box, "top": 1.5}]}, r"boxes\[0\]: expected 4 whole numbers"),
        ({"boxes": [{**box, "accepted": 1}]}, "expected a box that is accepted or not"),
        ({"boxes": [box] * 10_001}, "a list of at most 10,000 boxes"),
    ):
        (tmp_path / "r.json").write_text(json.dumps({"blemish_review": 1, "images": [{**good, **change}]}))
        with pytest.raises(SourceError, match=told):
            read_review(tmp_path / "r.json")
    for content, told in (
        ("[]", "is not what the page"),
        ('{"blemish_review": 1, "images": []}', "no image was reviewed"),
    ):
        (tmp_path / "r.json").write_text(content)
        with pytest.raises(SourceError, match=told):
            read_review(tmp_path / "r.json")


def test_a_tree_changes_no_image_and_refuses_what_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "new" / "0.png"
    predicted(path, 2.0)
    path.chmod(0o600)
    before = path.stat()
    one = Reviewed(str(path), "x/0.png", (100, 200), False, ())
    other = Reviewed(str(path), "x/0.jpg", (100, 200), False, ())
    made = write_tree([one, other], tmp_path / "tree", masks=False)
    assert (made.good, made.masks) == (2, 0)
    names = sorted(file.name for file in (tmp_path / "tree" / "test" / "good").iterdir())
    assert names == ["x_0.png", "x_0_2.jpg"]
    after = path.stat()
    assert (after.st_mode, after.st_mtime_ns, after.st_nlink) == (before.st_mode, before.st_mtime_ns, 1)
    with pytest.raises(SourceError, match="is 100x200 and was 50x50 when it was reviewed"):
        write_tree([Reviewed(str(path), "0.png", (50, 50), False, ())], tmp_path / "no")
    with pytest.raises(SourceError, match="is not on this machine; copy the images here"):
        write_tree([Reviewed("s3://b/0.png", "0.png", (50, 50), False, ())], tmp_path / "no")
    with pytest.raises(SettingError, match="share 1.0 is out of range"):
        write_tree([one], tmp_path / "no", train=1.0)
    assert not (tmp_path / "no").exists()
