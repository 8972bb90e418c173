"""The page of the service, in a browser, before a service of its own."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import blemish
from blemish.calibration import Calibration
from browser import chromium, watched
from command import ENVIRONMENT
from conftest import ROOT, part, scratched

PAGE = ROOT / "src" / "blemish" / "service" / "page"
WIDE = {"width": 1280, "height": 900}


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def images(model: blemish.Model) -> dict[str, bytes]:
    """A good image, though not among the best half, and one with a defect."""
    rng = np.random.default_rng(11)
    parts = [png(part(rng)) for _ in range(20)]
    good = next(image for image, p in zip(parts, model.judge(parts), strict=True) if 0.1 < p.p_value < 0.4)
    return {"good.png": good, "scratched.png": png(scratched(rng)[0])}


@pytest.fixture(scope="module")
def folder(model: blemish.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the served model lies, which the test of a swap replaces."""
    folder = tmp_path_factory.mktemp("served")
    model.save(folder / "parts.blemish")
    model.at(false_alarm_rate=0.5).save(folder / "other.blemish")
    return folder


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """Of a service of two models, of which the first has the second as its shadow."""
    other = folder / "other.blemish"
    words = ["serve", folder / "parts.blemish", other, "--shadow", f"parts=second={other}"]
    words += ["--port", 0, "--state", folder / "state"]
    command = [sys.executable, "-m", "blemish", *map(str, words)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT) as process:
        said = ""
        while not (found := re.search(r"http://[\w.:]+", said)):
            line = process.stderr.readline()  # type: ignore[union-attr]
            assert line, said
            said += line
        yield f"{found[0]}/"
        process.terminate()


@pytest.fixture(scope="module")
def running() -> Iterator[Any]:
    """A browser whose camera is a made-up one."""
    with chromium("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream") as running:
        yield running


@pytest.fixture
def page(running: Any, address: str) -> Iterator[Any]:
    with watched(running, address, (address, "blob:"), viewport=WIDE) as page:
        page.locator("#link", has_text="Connected").wait_for()
        yield page


def drop(page: Any, name: str, image: bytes, event: str = "drop") -> None:
    """Lets go of a file over the page, or pastes it."""
    page.evaluate(
        """([name, bytes, kind]) => {
            const data = new DataTransfer();
            data.items.add(new File([Uint8Array.from(bytes)], name, { type: "image/png" }));
            const event = kind === "paste" ? new ClipboardEvent(kind, { clipboardData: data, bubbles: true })
                : new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true });
            document.body.dispatchEvent(event);
        }""",
        [name, list(image), event],
    )


def judged(page: Any, name: str, image: bytes) -> None:
    """Drops an image and waits until its picture is shown."""
    drop(page, name, image)
    page.locator("#source", has_text=name).wait_for()
    page.locator(f"#stage .photo[alt^='{name}']").wait_for()


def ask(url: str, body: bytes | None = None, **headers: str) -> Any:
    request = urllib.request.Request(url, body, headers)  # noqa: S310
    with urllib.request.urlopen(request) as answer:  # noqa: S310
        return json.load(answer)


def test_thresholds_and_p_values_are_those_of_the_calibration(page: Any) -> None:
    rng = np.random.default_rng(3)
    for count in (20, 99, 237):
        scores = np.sort(rng.normal(size=count))
        known = Calibration(scores, scores, scores, rate=0.5, box_rate=0.5)
        rates = [1 / (count + 1), 0.05, 0.1, 0.123, 0.5, *rng.uniform(1 / (count + 1), 1, 200)]
        asked = [*scores, *scores * (1 + 5e-5), *rng.normal(size=50)]
        found = page.evaluate(
            """async ([scores, rates, asked]) => {
                const { thresholdAt, pValue } = await import("/page/calibration.js");
                return [rates.map((rate) => thresholdAt(scores, rate)), asked.map((score) => pValue(scores, score))];
            }""",
            [scores.tolist(), rates, asked],
        )
        assert found[0] == [known.at(rate=rate).threshold for rate in rates]
        assert found[1] == known.p_values(asked).tolist()


def test_a_dropped_image_shows_its_verdict_heat_map_and_boxes(page: Any, images: dict[str, bytes]) -> None:
    judged(page, "scratched.png", images["scratched.png"])
    assert page.locator("#word").text_content() == "Anomalous"
    assert page.locator("#verdict .sign.anomalous").count() == 1, "a shape says it too"
    assert page.locator("#sentence").text_content() == "At most 1 of 25 good images would score as high."
    heat = page.locator("#stage .heat")
    heat.wait_for()
    assert heat.evaluate("image => [image.naturalWidth > 0, getComputedStyle(image).opacity]") == [True, "0.5"]
    assert page.locator("#stage .boxes .over").count() >= 1
    photo, box = page.locator("#stage").bounding_box(), page.locator("#stage .boxes .over").first.bounding_box()
    assert photo["x"] < box["x"]
    assert box["x"] + box["width"] < photo["x"] + photo["width"], "the box lies in the picture"
    assert page.title() == "Anomalous – parts – blemish"
    page.locator("#announced", has_text="Anomalous. At most 1 of 25").wait_for(state="attached")
    drop(page, "good.png", images["good.png"], "paste")
    page.locator("#verdict.good").wait_for()


def test_a_name_that_means_harm_is_shown_as_it_is_and_does_nothing(page: Any, images: dict[str, bytes]) -> None:
    said: list[str] = []
    page.on("dialog", lambda dialog: said.append(dialog.message))
    for name in ("<img src=x onerror=alert(1)>.png", "&lt;b&gt;<b>&amp;.png", "javascript:alert(1)"):
        judged(page, name, images["scratched.png"])
        assert name in page.locator("#source").text_content()
        assert name in page.locator("#recent-list [aria-current]").get_attribute("title")
    assert page.locator("img[src=x], main script, main b").count() == 0
    assert said == []


def test_the_heat_maps_share_and_the_boxes_follow_their_controls(page: Any, images: dict[str, bytes]) -> None:
    judged(page, "scratched.png", images["scratched.png"])
    heat = page.locator("#stage .heat")
    heat.wait_for()
    page.locator("#share").fill("80")
    assert heat.evaluate("image => getComputedStyle(image).opacity") == "0.8"
    page.locator("#boxes").uncheck()
    assert not page.locator("#stage .boxes").is_visible()


def test_the_false_alarm_rate_moves_all_verdicts_and_goes_with_the_next_image(
    page: Any, images: dict[str, bytes]
) -> None:
    judged(page, "good.png", images["good.png"])
    assert "Lowest possible rate: 4 %" in page.locator("#lowest").text_content()
    slider = page.locator("#rate")
    alarms = page.locator("#recent-list .anomalous").count()
    slider.fill("1000")
    assert page.locator("#word").text_content() == "Anomalous", "at 50 %"
    assert slider.get_attribute("aria-valuetext") == "50 %"
    assert page.locator("#recent-list .anomalous").count() > alarms
    slider.fill("0")
    assert page.locator("#word").text_content() == "Good", "at 4 %"
    slider.fill("1000")
    with page.expect_request("**/predict?*") as sent:
        drop(page, "again.png", images["good.png"])
    assert "false_alarm_rate=0.5" in sent.value.url
    page.locator("#source", has_text="again.png").wait_for()
    page.locator("#as-set").click()
    assert page.locator("#word").text_content() == "Anomalous", "as it was judged, at 50 %"
    assert slider.get_attribute("aria-valuetext") == "4 %"


def test_what_a_person_says_is_kept_and_counted(page: Any, images: dict[str, bytes], address: str) -> None:
    judged(page, "good.png", images["good.png"])
    before = ask(f"{address}v1/models/parts")["waiting"]
    page.locator("#say-good").click()
    page.locator("#say-good[aria-pressed=true]").wait_for()
    after = ask(f"{address}v1/models/parts")["waiting"]
    assert after == {"good": before["good"] + 1, "anomalous": before["anomalous"]}
    said = page.locator("#waiting").text_content()
    assert re.fullmatch(
        rf"{after['good']} good waits? for the next update; {after['anomalous']} anomalous (is|are) kept\.", said
    )


def test_images_of_others_are_shown_as_they_come_and_older_ones_stay_open(
    page: Any, images: dict[str, bytes], address: str
) -> None:
    def send(name: str) -> None:
        ask(
            f"{address}v1/models/parts/predict",
            images["scratched.png"],
            **{"X-Name": name, "Content-Type": "image/png"},
        )

    send("from-the-line-1.png")
    page.locator("#source", has_text="from-the-line-1.png").wait_for()
    page.locator("#stage .heat").wait_for()
    page.locator("#recent-list button").nth(0).locator("img[src]").wait_for()
    page.locator("#recent-list button").nth(1).click()
    assert page.locator("#stale").is_visible()
    older = page.locator("#source").text_content()
    send("from-the-line-2.png")
    page.locator("#recent-list button").first.and_(page.locator("[title*='line-2']")).wait_for()
    assert page.locator("#source").text_content() == older
    page.locator("#follow").click()
    assert page.locator("#source").text_content() == "from-the-line-2.png"


def test_the_second_models_word_is_beside_the_verdict(page: Any, images: dict[str, bytes]) -> None:
    judged(page, "good.png", images["good.png"])
    said = page.locator("#shadow-verdict", has_text="It disagrees")
    said.wait_for()
    assert "Anomalous" in said.text_content(), "half of the good images are, at its rate"
    assert "does not decide" in page.locator("#shadow-agrees").text_content()


def test_everything_is_done_with_the_keyboard_alone(page: Any, images: dict[str, bytes]) -> None:
    judged(page, "first.png", images["good.png"])
    judged(page, "second.png", images["scratched.png"])
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    seen: list[str] = []
    while "skip" not in seen:
        page.keyboard.press("Tab")
        seen.append(page.evaluate("(({ id, title, className }) => id || title || className)(document.activeElement)"))
        assert len(seen) < 60
    for wanted in ("share", "boxes", "say-good", "say-anomalous", "files", "camera-start", "rate", "date", "print"):
        assert wanted in seen, f"{wanted} is reached by Tab"
    assert sum("second.png" in name for name in seen) == 1, "the list is one stop"
    page.locator("#recent-list [aria-current]").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#source").text_content() == "first.png"
    assert "first.png" in page.evaluate("document.activeElement.title"), "the keyboard goes along"
    page.keyboard.press("a")
    page.locator("#say-anomalous[aria-pressed=true]").wait_for()
    page.keyboard.press("n")
    assert page.locator("#source").text_content() == "second.png"
    page.evaluate("document.querySelector('#keys').checked = false")
    page.keyboard.press("g")
    page.locator("#share").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#share-is").text_content() == "55 %", "arrows on a slider move the slider"
    assert page.locator("#say-good").get_attribute("aria-pressed") == "false", "keys are off"


def test_a_camera_sends_an_image_at_its_pace_and_on_a_key(page: Any) -> None:
    page.locator("#every").evaluate("field => { field.value = 0; }")
    page.locator("#camera-start").click()
    page.locator("#video").wait_for()
    page.locator("#video").evaluate("v => v.videoWidth || new Promise((done) => { v.onloadeddata = done; })")
    page.keyboard.press("c")
    page.locator("#source", has_text="camera ").wait_for()
    first = page.locator("#source").text_content()
    page.locator("#every").fill("0.1")
    page.locator("#every").blur()
    page.locator("#source").filter(has_not_text=first).wait_for()
    page.locator("#camera-stop").click()
    assert page.locator("#camera-start").is_visible()


def test_another_model_is_chosen(page: Any, images: dict[str, bytes]) -> None:
    page.locator("#model").select_option("other")
    page.locator("#rate-says", has_text="50 %").wait_for()
    judged(page, "good.png", images["good.png"])
    assert page.locator("#by").text_content().startswith("other ")
    page.reload()
    page.locator("#by", has_text="other").wait_for()
    assert page.locator("#model").input_value() == "other", "it is in the address"


def test_the_day_is_drawn_and_the_same_as_a_table(page: Any, images: dict[str, bytes], address: str) -> None:
    judged(page, "good.png", images["good.png"])
    page.reload()
    page.locator("#chart svg .range").first.wait_for()
    rows = page.locator("#day-rows tr")
    assert rows.count() == page.locator("#chart svg rect.images").count()
    count = sum(int(row.locator("td").first.text_content()) for row in rows.all())
    with pytest.raises(urllib.error.HTTPError):
        ask(f"{address}v1/models/parts/predict", b"no pixels", **{"Content-Type": "image/png"})
    says = page.locator("#day-says", has_text="without a verdict")
    says.wait_for()
    images_of_day, without = (int(number) for number in re.findall(r"(\d+) (?:images|without)", says.text_content()))
    assert images_of_day == count + without
    assert "rift" in page.locator("#drift").text_content()
    page.locator("#date").fill("2020-02-29")
    page.locator("#day-says", has_text="No images on this day").wait_for()


def test_a_name_is_never_taken_for_html(page: Any, images: dict[str, bytes]) -> None:
    name = "<img src=x onerror=alert(1)><b>Prüfteil 部品.png"
    drop(page, name, images["good.png"])
    page.locator("#source", has_text="部品.png").wait_for()
    assert page.locator("#source").text_content() == name
    assert page.locator("main b").count() == 0


def test_a_phone_shows_verdict_and_picture_at_once(running: Any, address: str, images: dict[str, bytes]) -> None:
    with watched(running, address, (address, "blob:"), viewport={"width": 360, "height": 740}, has_touch=True) as page:
        judged(page, "scratched.png", images["scratched.png"])
        for width in (360, 320):
            page.set_viewport_size({"width": width, "height": 740})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            word, picture = page.locator("#word").bounding_box(), page.locator("#stage").bounding_box()
            assert word["x"] + page.locator("#word").evaluate("word => word.scrollWidth") <= width - 24
            assert picture["y"] + picture["height"] < 740


def test_text_stands_out_from_its_ground_as_wcag_asks(page: Any, images: dict[str, bytes]) -> None:
    page.emulate_media(reduced_motion="reduce")  # colours change at once
    for name, image in images.items():
        judged(page, name, image)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert page.evaluate(CONTRAST) == [], f"{name}, {scheme}"


CONTRAST = """() => {
    const parsed = (text) => text.match(/[\\d.]+/g).map(Number);
    const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
        .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const ground = (element) => {
        for (let at = element; at; at = at.parentElement) {
            const colour = parsed(getComputedStyle(at).backgroundColor);
            if (colour.length === 3 || colour[3] > 0) return colour;
        }
        return [255, 255, 255];
    };
    const poor = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement;
        if (!walker.currentNode.textContent.trim() || !element.checkVisibility()) continue;
        if (element.closest(".unseen, .bare")) continue;
        const style = getComputedStyle(element);
        const [a, b] = [light(parsed(element.closest("svg") ? style.fill : style.color)), light(ground(element))];
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (ratio < 4.5) poor.push(`${walker.currentNode.textContent.trim().slice(0, 30)}: ${ratio.toFixed(2)}`);
    }
    return poor;
}"""


def test_paper_gets_the_verdict_the_picture_and_the_figures(page: Any, images: dict[str, bytes]) -> None:
    judged(page, "scratched.png", images["scratched.png"])
    page.emulate_media(media="print")
    for shown in ("#word", "#stage .photo", "#figures"):
        assert page.locator(shown).is_visible()
    for hidden in ("header", "#recent", "#share", "#rate", "#files", "#day"):
        assert not page.locator(hidden).is_visible()


def test_a_file_that_is_no_image_is_said_in_one_line(running: Any, address: str, images: dict[str, bytes]) -> None:
    with watched(running, address, (address, "blob:"), "status of 4", viewport=WIDE) as page:
        drop(page, "notes.png", b"these are no pixels")
        said = page.locator("#trouble-text", has_text="notes.png: ")
        said.wait_for()
        assert "\n" not in said.text_content()
        page.locator("#sentence", has_text="The image is not an image of a known format").wait_for()
        assert page.locator("#word").text_content() == "No verdict"
        page.locator("#dismiss").click()
        assert not page.locator("#trouble").is_visible()
        drop(page, "notes.png", b"these are no pixels")
        said.wait_for()
        judged(page, "good.png", images["good.png"])
        assert not page.locator("#trouble").is_visible(), "the next good image takes the message away"


def test_a_service_that_does_not_answer_is_said(running: Any, address: str, images: dict[str, bytes]) -> None:
    with watched(running, address, (address, "blob:"), "ERR_INTERNET_DISCONNECTED", viewport=WIDE) as page:
        judged(page, "good.png", images["good.png"])
        word = page.locator("#word").text_content()
        page.context.set_offline(True)
        page.locator("#link", has_text="No answer since").wait_for()
        assert page.locator("#word").text_content() == "No answer"
        assert page.locator("#verdict.unknown .sign.unknown").is_visible()
        assert "are not judged" in page.locator("#sentence").text_content()
        assert not page.locator("#source").is_visible(), "nothing of the image before"
        page.context.set_offline(False)
        page.locator("#link", has_text="Connected").wait_for()
        page.locator("#word", has_text=word).wait_for()
        assert page.locator("#source").text_content() == "good.png"


def test_images_that_have_drifted_are_said_in_the_band(running: Any, address: str, images: dict[str, bytes]) -> None:
    with watched(running, "about:blank", ("about:", address, "blob:"), viewport=WIDE) as page:
        drift = {"martingale_log10": 2.5, "alarm": True, "images": 300}
        page.route("**/day?*", lambda route: route.fulfill(json={"buckets": [], "unreadable": 0, "drift": drift}))
        page.goto(address)
        page.locator("#drifted a", has_text="Images have drifted").wait_for()
        assert page.locator("#drifted a").get_attribute("href") == "#day"


def test_places_are_named_by_the_ninth_that_their_middle_lies_in(page: Any) -> None:
    def box(left: int, right: int, top: int, bottom: int) -> dict[str, int]:
        return {"left": left, "right": right, "top": top, "bottom": bottom}

    boxes = [box(0, 60, 70, 100), box(0, 90, 70, 100), box(0, 8, 0, 8), box(1, 9, 1, 9), box(40, 60, 40, 60)]
    boxes += [box(90, 100, 40, 60), box(90, 100, 90, 100)]
    found = page.evaluate("""async (boxes) => (await import("/page/words.js")).places(boxes, 100, 100)""", boxes)
    places = "lower left, lower middle, upper left (2), centre, middle right, lower right"
    assert found == f"7 places stand out: {places}."


def test_the_days_axis_ends_at_midnight(page: Any) -> None:
    hours = page.evaluate(
        """async () => {
            const { hours } = await import("/page/chart.js");
            const late = new Date(2026, 0, 31, 23, 40).getTime();
            const { start, end } = hours([{ start: late }]);
            return [(end - start) / 3600000, end === new Date(2026, 1, 1).getTime()];
        }"""
    )
    assert hours == [3, True]


def test_a_token_is_asked_for_once_and_kept_for_the_tab(running: Any, address: str) -> None:
    with watched(running, "about:blank", ("about:", address, "blob:"), "status of 401", viewport=WIDE) as page:

        def guard(route: Any) -> None:
            if route.request.headers.get("authorization") == "Bearer right":
                route.continue_()
            else:
                route.fulfill(status=401, json={"error": "no token"})

        page.route("**/v1/**", guard)
        page.goto(address)
        page.locator("#token").fill("wrong")
        page.keyboard.press("Enter")
        page.locator("#token-refused").wait_for()
        page.keyboard.press("Escape")
        page.locator("#trouble", has_text="needs a token").wait_for()
        page.locator("#enter-token").click()
        page.locator("#token").fill("right")
        page.keyboard.press("Enter")
        page.locator("#link", has_text="Connected").wait_for()
        page.reload()
        page.locator("#link", has_text="Connected").wait_for()
        assert not page.locator("#token-dialog").is_visible()


class Elements(HTMLParser):
    """Names and attributes of the elements of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_the_page_has_nothing_inline_and_names_no_other_host() -> None:
    elements = Elements()
    elements.feed((PAGE / "index.html").read_text())
    for tag, attributes in elements.found:
        assert tag != "style"
        assert tag != "script" or attributes.get("src")
        assert not [name for name in attributes if name == "style" or name.startswith("on")]
    for path in PAGE.iterdir():
        text = path.read_text().replace("http://www.w3.org/2000/svg", "").replace("http://localhost", "")
        assert not re.search(r"https?://", text), path.name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text), path.name


def test_a_model_is_swapped_while_requests_run(
    page: Any, images: dict[str, bytes], address: str, folder: Path, model: blemish.Model
) -> None:
    before = page.locator("#model-is").text_content()
    files = [{"name": f"{index}.png", "mimeType": "image/png", "buffer": images["good.png"]} for index in range(40)]
    page.set_input_files("#files", files)
    page.locator("#progress", has_text="of 40 images").wait_for()
    model.at(false_alarm_rate=0.25).save(folder / "parts.blemish", force=True)
    version = ask(f"{address}v1/models/parts/reload", b"")["version"]
    assert version not in before
    page.locator("#progress", has_text="judged").wait_for(state="hidden")
    page.locator("#model-is", has_text=version).wait_for()
    assert "25 %" in page.locator("#rate-says").text_content()
    assert not page.locator("#trouble").is_visible()
