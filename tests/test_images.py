from __future__ import annotations

import struct
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blemish.decoding import decode_ahead
from blemish.errors import ImageError, SettingError
from blemish.image_files import MAX_PIXELS
from blemish.images import Geometry, read_image, read_mask, read_size

SAME = Geometry(40, 48)


def gradient(height: int = 40, width: int = 48) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([255 * y / (height - 1), 255 * x / (width - 1), 0 * x + 128], -1).astype(np.uint8)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "webp"])
def test_a_lossless_file_gives_the_pixels_that_were_written(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    Image.fromarray(gradient()).save(path, **({"lossless": True} if suffix == "webp" else {}))
    assert np.array_equal(read_image(path, SAME), gradient())


def test_a_jpeg_gives_nearly_the_pixels_that_were_written(tmp_path: Path) -> None:
    Image.fromarray(gradient()).save(tmp_path / "x.jpg", quality=95)
    assert np.abs(read_image(tmp_path / "x.jpg", SAME).astype(int) - gradient()).mean() < 2


def test_grey_is_repeated_to_three_channels(tmp_path: Path) -> None:
    grey = gradient()[..., 0]
    Image.fromarray(grey).save(tmp_path / "x.png")
    assert np.array_equal(read_image(tmp_path / "x.png", SAME), np.repeat(grey[..., None], 3, 2))


def test_one_bit_is_black_and_white(tmp_path: Path) -> None:
    bits = gradient()[..., 1] > 127
    Image.fromarray(bits).save(tmp_path / "x.png")
    assert np.array_equal(read_image(tmp_path / "x.png", SAME)[..., 0], 255 * bits.astype(np.uint8))


def test_transparency_is_laid_over_black(tmp_path: Path) -> None:
    alpha = np.dstack([gradient(), np.zeros((40, 48), np.uint8)])
    alpha[:, 24:, 3] = 255
    Image.fromarray(alpha).save(tmp_path / "x.png")
    read = read_image(tmp_path / "x.png", SAME)
    assert not read[:, :24].any()
    assert np.array_equal(read[:, 24:], gradient()[:, 24:])


def test_a_palette_is_looked_up_and_its_transparent_colour_is_black(tmp_path: Path) -> None:
    image = Image.fromarray((gradient()[..., 1] > 127).astype(np.uint8)).convert("P")
    image.putpalette([255, 0, 0, 0, 255, 0] + 254 * [0, 0, 0])
    image.save(tmp_path / "x.png")
    assert read_image(tmp_path / "x.png", SAME)[0, [0, -1]].tolist() == [[255, 0, 0], [0, 255, 0]]
    image.save(tmp_path / "y.png", transparency=0)
    assert read_image(tmp_path / "y.png", SAME)[0, [0, -1]].tolist() == [[0, 0, 0], [0, 255, 0]]


def test_cmyk_becomes_the_colour_it_shows(tmp_path: Path) -> None:
    Image.new("CMYK", (48, 40), (0, 255, 255, 0)).save(tmp_path / "x.tif")
    red, green, blue = read_image(tmp_path / "x.tif", SAME)[20, 20]
    assert red > 250
    assert green < 5
    assert blue < 5


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_scaled_by_the_type_not_by_the_image(tmp_path: Path, suffix: str) -> None:
    values = np.linspace(0, 30000, 40 * 48).reshape(40, 48).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / f"x.{suffix}")
    assert np.array_equal(read_image(tmp_path / f"x.{suffix}", SAME)[..., 0], (values / 257).round().astype(np.uint8))


@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_rotation_is_applied_to_pixels_and_to_the_size(tmp_path: Path, turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.fromarray(gradient()).save(tmp_path / "x.png", exif=exif)
    height, width = (48, 40) if turn >= 5 else (40, 48)
    assert read_size(tmp_path / "x.png") == (height, width)
    upright = read_image(tmp_path / "x.png", Geometry(height, width)).astype(int)
    ways = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}
    assert upright[ways[turn]][:2].tolist() == [0, 0], "the corner that was stored first is dark in red and green"


def test_of_an_animation_the_first_frame_counts(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (48, 40), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "x.webp", save_all=True, append_images=frames[1:], lossless=True)
    assert read_image(tmp_path / "x.webp", SAME)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("name", ["astronaut.png", "coffee.png", "chelsea.png", "retina.jpg"])
def test_shrinking_in_two_steps_stays_within_two_grey_levels_of_one_on_average(
    tmp_path: Path, name: str, suffix: str
) -> None:
    import skimage

    photograph = Image.open(Path(skimage.__file__).parent / "data" / name).convert("RGB").resize((1200, 1000))
    photograph.save(tmp_path / f"x.{suffix}", quality=95)
    full = Image.open(tmp_path / f"x.{suffix}").convert("RGB").resize((128, 128), Image.Resampling.BICUBIC)
    found = read_image(tmp_path / f"x.{suffix}", Geometry(128, 128)).astype(int)
    assert np.abs(found - np.asarray(full)).mean() < 2


def test_shrinking_to_over_half_the_size_is_one_step(tmp_path: Path) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 90, 3), dtype=np.uint8))
    image.save(tmp_path / "x.png")
    wanted = np.asarray(image.resize((50, 50), Image.Resampling.BICUBIC))
    assert np.array_equal(read_image(tmp_path / "x.png", Geometry(50, 50)), wanted)


def test_a_cameras_picture_with_a_second_one_behind_it_is_a_jpeg_like_any_other(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (48, 40), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "x.jpg", "MPO", save_all=True, append_images=frames[1:], quality=100)
    red, _, blue = read_image(tmp_path / "x.jpg", SAME)[20, 20]
    assert red > 250
    assert blue < 5


def test_a_crop_is_taken_from_the_middle() -> None:
    assert np.array_equal(read_image(gradient(), Geometry(40, 48, 32)), gradient()[4:36, 8:40])


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((40, 48), np.uint8),
        np.zeros((40, 48), np.uint16),
        np.zeros((40, 48, 3), np.uint8),
        np.zeros((40, 48, 4), np.uint8),
    ],
)
def test_arrays_of_images_are_taken(array: np.ndarray) -> None:
    assert read_image(array, SAME).shape == (40, 48, 3)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((40, 48), np.float32),
        np.zeros((40, 48, 2), np.uint8),
        np.zeros((3,), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_other_arrays_are_refused_with_their_shape_and_type(array: np.ndarray) -> None:
    with pytest.raises(ImageError, match=str(array.dtype)):
        read_image(array, SAME)


def bomb(path: Path, side: int = 1_000_000) -> Path:
    """A PNG of a few bytes that claims `side` squared pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    return path


def bad_files(folder: Path) -> dict[str, Path]:
    """One file of each kind that cannot be used."""
    folder.mkdir(exist_ok=True)
    good = folder / "good.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(good)
    Image.open(good).save(folder / "good.jpg")
    content = good.read_bytes()
    files = {
        "truncated": content[: len(content) // 2],
        "empty": b"",
        "mislabelled": b"this is a text, whatever its name says",
        "noise": bytes(range(256)) * 8,
    }
    paths = {}
    for name, content in files.items():
        paths[name] = folder / f"{name}.png"
        paths[name].write_bytes(content)
    paths["truncated jpeg"] = folder / "truncated.jpg"
    paths["truncated jpeg"].write_bytes((folder / "good.jpg").read_bytes()[:600])
    paths["bomb"] = bomb(folder / "bomb.png")
    paths["just too large"] = bomb(folder / "large.png", int(MAX_PIXELS**0.5) + 1)
    paths["floats"] = folder / "floats.tif"
    Image.fromarray(np.zeros((64, 64), np.float32)).save(paths["floats"])
    paths["a folder"] = folder / "folder.png"
    paths["a folder"].mkdir(exist_ok=True)
    paths["missing"] = folder / "missing.png"
    return paths


def test_every_bad_file_gives_one_line_that_names_it_and_the_mend(tmp_path: Path) -> None:
    for kind, path in bad_files(tmp_path).items():
        with pytest.raises(ImageError) as caught:
            read_image(path, SAME)
        assert str(path) in str(caught.value), kind
        assert "\n" not in str(caught.value), kind
        assert caught.value.reason.count(" ") > 3, kind


@pytest.mark.parametrize(
    ("size", "crop"), [("0", None), ("abc", None), ("64x64x64", None), ("99999", None), ("64", 65)]
)
def test_a_size_that_makes_no_sense_is_refused(size: str, crop: int | None) -> None:
    with pytest.raises(SettingError, match=r"size|crop"):
        Geometry.parse(size, crop)


def test_a_size_is_height_by_width() -> None:
    assert Geometry.parse("40x48").shape == (40, 48)
    assert Geometry.parse(64, 32).shape == (32, 32)


def test_results_come_in_order_and_few_wait_in_memory() -> None:
    lock, waiting, most = threading.Lock(), 0, 0

    def slow(item: int) -> int:
        nonlocal waiting, most
        time.sleep(0.002 * (item % 3))
        with lock:
            waiting += 1
            most = max(most, waiting)
        return item

    seen = []
    for item in decode_ahead(slow, range(60), ahead=7):
        with lock:
            waiting -= 1
        seen.append(item)
    assert seen == list(range(60))
    assert most <= 8


def test_an_unreadable_item_is_handed_on_and_another_error_ends_it() -> None:
    def read(item: int) -> int:
        if item == 1:
            raise ImageError("x", "is bad")
        if item == 3:
            raise RuntimeError("a fault")
        return item

    results = decode_ahead(read, range(4))
    assert next(results) == 0
    assert isinstance(next(results), ImageError)
    assert next(results) == 2
    with pytest.raises(RuntimeError, match="a fault"):
        next(results)


@pytest.mark.parametrize("high", [1, 200, 255])
def test_of_a_mask_with_two_values_the_one_that_is_not_zero_counts(tmp_path: Path, high: int) -> None:
    mask = np.zeros((40, 48), np.uint8)
    mask[10:20, 5:9] = high
    Image.fromarray(mask).save(tmp_path / "m.png")
    Image.fromarray(gradient()).save(tmp_path / "x.png")
    assert np.array_equal(read_mask(tmp_path / "m.png", tmp_path / "x.png", SAME), mask > 0)


def test_of_a_mask_with_grey_edges_what_is_above_half_of_its_maximum_counts(tmp_path: Path) -> None:
    mask = np.zeros((40, 48), np.uint8)
    mask[10, :5] = [50, 100, 101, 150, 200]
    Image.fromarray(mask).save(tmp_path / "m.png")
    Image.fromarray(gradient()).save(tmp_path / "x.png")
    assert np.flatnonzero(read_mask(tmp_path / "m.png", tmp_path / "x.png")[10]).tolist() == [2, 3, 4]


def test_of_a_palette_mask_every_index_but_zero_counts(tmp_path: Path) -> None:
    mask = np.zeros((40, 48), np.uint8)
    mask[3, :3] = [0, 1, 2]
    image = Image.fromarray(mask).convert("P")
    image.putpalette(768 * [0])
    image.save(tmp_path / "m.png")
    Image.fromarray(gradient()).save(tmp_path / "x.png")
    assert np.flatnonzero(read_mask(tmp_path / "m.png", tmp_path / "x.png")[3]).tolist() == [1, 2]


def test_a_mask_of_another_size_than_its_image_is_refused_with_both_sizes(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((40, 40), np.uint8)).save(tmp_path / "m.png")
    Image.fromarray(gradient()).save(tmp_path / "x.png")
    with pytest.raises(ImageError, match=r"40x40 .* 40x48"):
        read_mask(tmp_path / "m.png", tmp_path / "x.png", SAME)
