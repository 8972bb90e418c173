from __future__ import annotations

import math
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from blemish.images import Geometry, in_proportion, input_shape
from blemish.images.proportions import nearest_shape

sizes = st.integers(32, 4096)
images = st.tuples(st.integers(1, 20_000), st.integers(1, 20_000))


def proportions(shapes: list[tuple[int, int]]) -> list[float]:
    return [math.log(height) - math.log(width) for height, width in shapes]


@pytest.mark.parametrize("size", [32, 64, 96, 224, 256, 512, 4096])
def test_square_images_give_a_square_of_the_size(size: int) -> None:
    assert input_shape(size, [0.0, 0.0, 0.0]) == (size, size)
    assert input_shape(size, []) == (size, size), "as no images do"


def test_parts_of_500x1260_give_160x416() -> None:
    assert input_shape(256, proportions([(500, 1260)] * 3)) == (160, 416)


@given(size=sizes, shapes=st.lists(images, max_size=9))
def test_sides_are_multiples_of_32_that_the_model_takes(size: int, shapes: list[tuple[int, int]]) -> None:
    height, width = input_shape(size, proportions(shapes))
    assert height % 32 == width % 32 == 0
    Geometry(height, width)  # raises beyond its limits


@given(size=sizes, shapes=st.lists(images, max_size=9))
def test_transposed_images_give_the_transposed_shape(size: int, shapes: list[tuple[int, int]]) -> None:
    turned = [(width, height) for height, width in shapes]
    assert input_shape(size, proportions(turned)) == input_shape(size, proportions(shapes))[::-1]


@given(size=st.integers(128, 512), proportion=st.floats(-math.log(4), math.log(4)))
def test_no_other_multiples_of_32_are_nearer_to_area_and_ratio_together(size: int, proportion: float) -> None:
    def wrong(shape: tuple[int, int]) -> float:
        height, width = shape
        return math.log(height * width / size**2) ** 2 + (math.log(height / width) - proportion) ** 2

    best = min(product(range(32, 1100, 32), repeat=2), key=wrong)
    assert wrong(nearest_shape(size, proportion)) <= wrong(best) + 1e-9


@given(size=st.integers(256, 362), proportion=st.floats(-20, 20))
def test_from_256_on_the_area_is_within_a_fifth_up_to_a_ratio_of_four_and_never_half_as_large_again(
    size: int, proportion: float
) -> None:
    height, width = nearest_shape(size, proportion)
    off = abs(math.log(height * width / size**2))
    assert off < math.log(1.5)
    if abs(proportion) <= math.log(4):
        assert off < math.log(1.2)


def test_extreme_images_give_a_shape_of_the_same_area() -> None:
    assert nearest_shape(256, math.log(1 / 50)) == (32, 1824)
    assert nearest_shape(256, math.log(1 / 10_000)) == (32, 2048)
    assert nearest_shape(4096, math.log(10_000)) == (4096, 4096)


def test_one_odd_image_changes_nothing() -> None:
    assert input_shape(256, proportions([(300, 400)] * 20 + [(4000, 100)])) == (224, 288)


def test_images_in_all_shapes_that_no_shape_suits_give_a_square() -> None:
    assert input_shape(256, proportions([(300, 400)] * 6 + [(400, 300)] * 5)) == (256, 256)
    assert input_shape(256, proportions([(300, 400)] * 10 + [(400, 300)])) == (224, 288)


def write(path: Path, height: int, width: int, **options: object) -> Path:
    Image.new("RGB", (width, height), "red").save(path, **options)
    return path


def test_the_shape_comes_from_headers_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for suffix in ("jpg", "png", "webp", "tif"):
        path = write(tmp_path / f"lying.{suffix}", 50, 126, exif=exif)
        assert in_proportion(Geometry(), [path]).shape == (416, 160), suffix
    assert in_proportion(Geometry(), [write(tmp_path / "upright.jpg", 50, 126)]).shape == (160, 416)


def test_images_that_cannot_be_opened_are_ignored(tmp_path: Path) -> None:
    bad = [tmp_path / f"{number}.png" for number in range(100)]
    for path in bad[:50]:
        path.write_bytes(b"no image")
    assert in_proportion(Geometry(), bad).shape == (256, 256)
    good = write(tmp_path / "good.png", 50, 126)
    assert in_proportion(Geometry(), [*bad, good]).shape == (160, 416)


def test_images_in_one_file_count_as_others_do(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=np.zeros((3, 20, 60), np.uint8))
    paths = [tmp_path / "x.npz" / "a" / str(number) for number in range(3)]
    assert in_proportion(Geometry(96, 96), paths).shape == input_shape(96, proportions([(1, 3)]))


@pytest.mark.parametrize(
    ("geometry", "proportion", "expected"),
    [
        (Geometry(), 0.0, (256, 256)),
        (Geometry(160, 416), math.log(160 / 416), (160, 416)),
        (Geometry(64, 64), math.log(4), (128, 32)),
        (Geometry(64, 64), -math.log(4), (32, 128)),
        (Geometry(64, 128, crop=64), math.log(1 / 2), (64, 64)),  # a square is seen of such an image
        (Geometry(64, 64, tile=64), math.log(4), (64, 64)),
        (Geometry(64, 64), math.log(1000), (256, 16)),
    ],
)
def test_what_a_model_sees_is_shown_in_the_images_proportions(
    geometry: Geometry, proportion: float, expected: tuple[int, int]
) -> None:
    assert geometry.displayed(proportion) == expected
