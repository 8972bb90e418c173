"""What `check` finds, and that its advice can be followed."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance
from scipy import ndimage

from blemish.cli.main import app
from blemish.datasets.check import Finding, Shapes, check_source, joined
from blemish.datasets.near_copies import CROWD, SIDE, detail_of, near_copies
from conftest import part, write_parts, write_tree


def found(root: Path, *kinds: str) -> list[Finding]:
    return [one for one in check_source(str(root)).findings if one.kind in kinds]


def status_of(*words: object) -> int:
    try:
        return app(["check", *map(str, words)], standalone_mode=False) or 0
    except SystemExit as left:
        return int(str(left.code))


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """A small tree that can be spoiled, of parts that have scratches of their own, as real ones do."""
    rng = np.random.default_rng(5)
    for path in sorted(write_tree(tmp_path / "parts", 12, 3).glob("t*/*/*.png")):
        surface = 12 * ndimage.gaussian_filter(rng.normal(size=(96, 96, 1)), (1.5, 1.5, 0))
        pixels = np.asarray(Image.open(path)) + 10 * surface
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)
    return tmp_path / "parts"


def again(path: Path, to: Path, change: Callable[[Image.Image], Image.Image] = lambda image: image, **how: int) -> None:
    """Saves an image again."""
    change(Image.open(path).convert("RGB")).save(to, **how)


def test_images_of_one_product_are_no_copies_of_each_other(parts: Path) -> None:
    assert not found(parts, "same", "near")


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image,
        lambda image: image.resize((160, 160), Image.Resampling.LANCZOS),
        lambda image: ImageEnhance.Brightness(image).enhance(1.03),
    ],
    ids=["JPEG", "larger", "brighter"],
)
def test_an_image_that_was_saved_again_is_found_in_the_training_part_and_across_the_split(
    parts: Path, change: Callable[[Image.Image], Image.Image]
) -> None:
    train, test = parts / "train" / "good", parts / "test" / "good"
    again(train / "003.png", train / "copy.jpg", change, quality=90)
    again(train / "005.png", test / "leak.jpg", change, quality=90)
    again(test / "001.png", test / "twice.jpg", change, quality=90)  # which counts twice in a test, and is no leak
    near = {Path(one.where).name: one for one in found(parts, "near")}
    assert near.keys() == {"copy.jpg", "leak.jpg"}
    assert near["copy.jpg"].what == f"is nearly the same as {train / '003.png'}"
    assert near["leak.jpg"].what == f"is nearly the same as {train / '005.png'}, a training image"
    for one in near.values():  # as the advice has it
        Path(one.where).unlink()
    assert not found(parts, "near")


def test_a_copy_of_the_same_bytes_is_told_once(parts: Path) -> None:
    shutil.copy(parts / "train" / "good" / "003.png", parts / "test" / "good" / "leak.png")
    (one,) = found(parts, "same", "near")
    assert one.what.startswith("is the same file as")
    assert one.fix == "leave it out of the test part"


def noise(rng: np.random.Generator, count: int, common: np.ndarray) -> list[np.ndarray]:
    return [np.clip(common + 8 * rng.standard_normal(common.shape), 0, 255).astype(np.uint8) for _ in range(count)]


def test_images_of_two_cameras_are_not_copies_within_each_camera() -> None:
    rng = np.random.default_rng(0)
    scenes = [rng.integers(20, 230, (SIDE, SIDE, 3)) for _ in range(2)]
    images = [image for scene in scenes for image in noise(rng, CROWD + 5, scene)]
    assert near_copies(np.stack([detail_of(image) for image in images])) == []
    images.append(np.clip(images[3] + 1, 0, 255).astype(np.uint8))
    assert near_copies(np.stack([detail_of(image) for image in images])) == [(3, len(images) - 1)]


def test_images_without_detail_are_no_near_copies() -> None:
    flat = [np.full((SIDE, SIDE, 3), value, np.uint8) for value in (0, 90, 90, 255)]
    assert near_copies(np.stack([detail_of(image) for image in flat])) == []


def test_images_smaller_than_what_is_compared_are_not_called_near_copies(tmp_path: Path) -> None:
    strokes = np.zeros((28, 28), np.uint8)
    strokes[4:24, 12:16] = 200
    for index in range(6):
        strokes[10, 13 + index % 3] += 1 + index
        Image.fromarray(strokes).save(tmp_path / f"{index}.png")
    assert {one.kind for one in check_source(str(tmp_path)).findings} == {"small", "count"}


def test_masks_that_are_missing_are_told(parts: Path) -> None:
    assert not any("mask" in one.what for one in found(parts, "count"))
    shutil.rmtree(parts / "ground_truth")
    (one,) = [one for one in found(parts, "count") if "mask" in one.what]
    assert one.what == "has no masks of its 3 anomalous images, so pixel metrics cannot be measured"
    assert not one.stops_fit


def test_the_status_says_whether_a_fit_would_stop_and_whether_all_could_be_read(parts: Path) -> None:
    assert status_of(parts) == 0
    (parts / "test" / "good" / "cut.png").write_bytes(b"cut")
    assert status_of(parts) == 3
    (parts / "train" / "good" / "cut.png").write_bytes(b"cut")
    assert status_of(parts) == 1


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_images_that_are_all_the_same_or_too_few_would_stop_a_fit(tmp_path: Path, count: int) -> None:
    folder = tmp_path / "black"
    folder.mkdir()
    (folder / "cut.png").write_bytes(b"cut")
    for index in range(count):
        Image.new("RGB", (70, 70)).save(folder / f"{index}.{'png' if index % 2 else 'bmp'}")
    (one,) = found(folder, "count")
    assert one.stops_fit
    expected = {0: "has 0 images to fit that can be read", 1: "has 1 image to fit that can be read"}
    assert one.what == expected.get(count, f"all {count} images to fit are the same picture")


def test_each_advice_can_be_followed(parts: Path) -> None:
    good = parts / "train" / "good"
    again(good / "000.png", good / "photograph.png", lambda image: image.rotate(90))
    Image.fromarray(part(np.random.default_rng(9), 96)).convert("RGB").save(good / "photograph.jpg")
    (good / "photograph.jpg").rename(good / "named.png")
    (good / "cut.png").write_bytes((good / "001.png").read_bytes()[:90])
    Image.new("RGB", (96, 30), "red").save(good / "wide.png")
    Image.new("L", (96, 96)).save(parts / "ground_truth" / "scratch" / "000_mask.png")
    write_parts(good, 100, seed=7)
    for _ in range(3):
        for one in check_source(str(parts)).findings:
            where = Path(one.where)
            if not where.exists():  # it was removed for another reason
                continue
            if one.fix.startswith("rename to "):
                where.rename(where.with_suffix(one.fix.removeprefix("rename to ")))
            elif "mark the defect" in one.fix:
                Image.new("L", (96, 96), 255).save(where)
            elif any(way in one.fix for way in ("remove it", "leave", "larger originals")):
                where.unlink()
            else:
                raise AssertionError(one)
    assert not check_source(str(parts)).findings


def test_lines_of_one_kind_are_joined_with_a_count_and_first_names() -> None:
    findings = [Finding("small", f"a/{index}.png", "under 64 pixels", "use larger ones") for index in range(6)]
    findings.append(Finding("unreadable", "b.png", "is empty", "copy it again"))
    assert joined(findings) == [
        ("a/0.png", "under 64 pixels (the same in 5 more: 1.png, 2.png, 3.png and 2 more); use larger ones"),
        ("b.png", "is empty; copy it again"),
    ]
    assert joined(findings[:2])[0][1] == "under 64 pixels (the same in 1 more: 1.png); use larger ones"


def test_saving_as_jpeg_keeps_the_detail() -> None:
    rng = np.random.default_rng(4)
    surface = ndimage.gaussian_filter(rng.normal(size=(4 * SIDE, 4 * SIDE, 1)), (2, 2, 0))
    image = np.clip(part(rng, 4 * SIDE) + 200 * surface, 0, 255).astype(np.uint8)
    content = io.BytesIO()
    Image.fromarray(image).save(content, "JPEG", quality=75)
    one, other = detail_of(image).astype(float), detail_of(np.asarray(Image.open(content))).astype(float)
    assert np.corrcoef(one, other)[0, 1] > 0.97


def test_tiles_are_advised_where_a_fit_would_shrink_images_to_less_than_half() -> None:
    hint = ", or give --tile to cut them instead"
    assert str(Shapes([(600, 800)] * 3)).endswith(f"fit resizes all to 224x288{hint}")
    assert str(Shapes([(512, 512)] * 3)).endswith("fit resizes all to 256x256")
