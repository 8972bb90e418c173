from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from bad_images import bad_files, bomb
from blemish.errors import ImageError, SettingError
from blemish.images import (
    Geometry,
    decode_ahead,
    read_format,
    read_header,
    read_image,
    read_mask,
    read_size,
    read_tiles,
)

SAME = Geometry(40, 48)
SQUARE = Geometry(256, 256)


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


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_rotation_is_applied_to_pixels_and_to_the_size(tmp_path: Path, turn: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    path = tmp_path / f"x.{suffix}"
    Image.fromarray(gradient()).save(path, exif=exif)
    height, width = (48, 40) if turn >= 5 else (40, 48)
    assert read_size(path) == (height, width)
    upright = read_image(path, Geometry(height, width)).astype(int)
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


@pytest.mark.parametrize("turn", [1, 6])
@pytest.mark.parametrize("wanted", [(64, 192), (192, 64)])
def test_a_jpeg_is_never_decoded_below_the_size_wanted_lying_or_upright(
    tmp_path: Path, wanted: tuple[int, int], turn: int
) -> None:
    import skimage

    exif = Image.Exif()
    exif[0x0112] = turn
    photograph = Image.open(Path(skimage.__file__).parent / "data" / "coffee.png").resize((1600, 1200))
    photograph.save(tmp_path / "x.jpg", quality=95, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(tmp_path / "x.jpg"))
    full = np.asarray(upright.resize(wanted[::-1], Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(read_image(tmp_path / "x.jpg", Geometry(*wanted)) - full).mean() < 2


def test_of_a_jpeg_that_is_to_be_narrow_less_is_decoded(tmp_path: Path) -> None:
    Image.new("RGB", (4000, 1000)).save(tmp_path / "x.jpg")
    narrow, square = (read_header(tmp_path / "x.jpg", geometry).decoding for geometry in (Geometry(64, 256), SQUARE))
    assert narrow < square / 2


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
    assert read_format(tmp_path / "x.jpg") == "JPEG"


def of_mode(mode: str, height: int, width: int) -> Image.Image:
    rng = np.random.default_rng(0)
    if mode == "I;16":
        return Image.fromarray(rng.integers(0, 65536, (height, width), dtype=np.uint16))
    colours = Image.fromarray(rng.integers(0, 256, (height, width, 4), dtype=np.uint8))
    return colours if mode == "RGBA" else colours.convert("RGB").convert(mode)


def converted_whole(image: Image.Image) -> Image.Image:
    if image.mode == "I;16":
        return Image.fromarray(((np.asarray(image).astype(int) + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in {"RGBA", "LA"} or "transparency" in image.info:
        visible = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", visible.size, (0, 0, 0, 255)), visible).convert("RGB")
    return image.convert("RGB")


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA", "I;16", "P", "P with transparency", "CMYK", "1"])
@pytest.mark.parametrize(("height", "width"), [(137, 203), (200, 64), (33, 700), (130, 66), (64, 64)])
def test_an_image_that_is_shrunk_in_bands_is_the_same_to_the_bit(
    tmp_path: Path, mode: str, height: int, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    kind, _, transparent = mode.partition(" with ")
    of_mode(kind, height, width).save(path, **({"transparency": 3} if transparent else {}))
    for wanted in (Geometry(32, 32), Geometry(33, 47), Geometry(48, 32, 32)):
        with Image.open(path) as image:
            whole = converted_whole(image)
        resized = whole.resize((wanted.width, wanted.height), Image.Resampling.BICUBIC, reducing_gap=2.0)
        expected = wanted.apply(resized)  # which only crops
        for band in (1 << 18, 2000, 1):
            monkeypatch.setattr("blemish.images.reading.BAND", band)
            assert np.array_equal(read_image(path, wanted), expected)


MEASURED = """
import sys
from pathlib import Path
import numpy as np
from blemish.images.reading import *
from blemish.images.files import opened
from blemish.images.reading import _share
def peak():
    return next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith("VmHWM"))
path, whole = Path(sys.argv[1]), sys.argv[2] == "whole"
read_image(np.zeros((600, 600, 4), np.uint8), Geometry())  # what is loaded once
before = peak()
if whole:
    with opened(path) as image:
        told = _share(image, None)
    with whole_image(path):
        pass
else:
    told = read_header(path, Geometry()).decoding
    read_image(path, Geometry())
print(told, peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process's memory is read as on Linux")
@pytest.mark.parametrize("how", ["shrunk", "whole"])
@pytest.mark.parametrize(
    ("mode", "suffix", "options"),
    [
        ("RGBA", "png", {"compress_level": 1}),
        ("I;16", "png", {"compress_level": 1}),
        ("L", "png", {"compress_level": 1}),
        ("RGB", "jpg", {"progressive": True}),
        ("RGB", "tif", {"compression": "tiff_adobe_deflate"}),
        ("RGB", "webp", {"method": 0}),
    ],
)
def test_an_image_takes_as_much_memory_as_its_header_says(
    tmp_path: Path, mode: str, suffix: str, options: dict[str, object], how: str
) -> None:
    path = tmp_path / f"x.{suffix}"
    of_mode(mode, 500, 500).resize((4000, 4000), Image.Resampling.NEAREST).save(path, **options)
    done = subprocess.run([sys.executable, "-c", MEASURED, path, how], capture_output=True, text=True, check=True)
    told, real = map(int, done.stdout.split())
    assert real < 1.1 * told + (8 << 20)
    assert told < 2 * real + (8 << 20)


def test_a_header_is_read_without_decoding(tmp_path: Path) -> None:
    header = read_header(bomb(tmp_path / "x.png", 5000), SAME)
    assert (header.height, header.width) == (5000, 5000)
    assert header.decoding >= 25_000_000


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "webp", "jpg"])
def test_large_images_within_the_limit_are_read_without_pillows_warning(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"x.{suffix}"
    Image.fromarray(np.tile(gradient(), (4, 4, 1))).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20_000)
    monkeypatch.setattr("blemish.images.photographs.BAND", 5000)
    assert read_size(path) == (160, 192)
    assert read_image(path, SAME).shape == (40, 48, 3)
    tiles = [tile for _, tile in read_tiles(path, Geometry(100, 100, tile=100, overlap=10))]
    assert len(tiles) == 6


def test_reading_in_threads_leaves_the_hosts_warnings_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(gradient()).save(tmp_path / "x.png")
    Image.fromarray(gradient()).save(tmp_path / "x.jpg")
    before = list(warnings.filters)
    monkeypatch.setattr(warnings, "catch_warnings", lambda **_: pytest.fail("it is no thread's own"))
    paths = 50 * [tmp_path / "x.png", tmp_path / "x.jpg", tmp_path / "none.png"]
    found = list(decode_ahead(lambda path: read_image(path, SAME), paths))
    assert sum(isinstance(image, np.ndarray) for image in found) == 100
    assert warnings.filters == before


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names here")
def test_what_is_no_regular_file_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.png")
    for read in (lambda path: read_image(path, SAME), read_size, read_format):
        with pytest.raises(ImageError, match="is not a regular file; remove it"):
            read(tmp_path / "x.png")


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
        np.zeros((40, 48), bool),
        np.zeros((40, 48, 2), np.uint8),
        np.zeros((3,), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_other_arrays_are_refused_with_their_shape_and_type(array: np.ndarray) -> None:
    with pytest.raises(ImageError, match=str(array.dtype)):
        read_image(array, SAME)


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


@pytest.mark.parametrize("ending", ["png", "jpg", "bmp", "tif", "webp"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_the_bytes_of_a_file_give_the_image_that_the_file_gives(tmp_path: Path, ending: str, mode: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)
    path = tmp_path / f"image.{ending}"
    Image.fromarray(pixels).convert(mode).save(path)
    content = path.read_bytes()
    for geometry in (Geometry(64, 64), Geometry(32, 48), Geometry(64, 64, crop=40)):
        assert np.array_equal(read_image(content, geometry), read_image(path, geometry))
    assert read_size(content) == read_size(path) == (90, 120)
    tiled = Geometry(64, 64, tile=64, overlap=16)
    for (place, tile), (other, expected) in zip(read_tiles(content, tiled), read_tiles(path, tiled), strict=True):
        assert place == other
        assert np.array_equal(tile, expected)


def test_bytes_are_refused_as_their_file_is(tmp_path: Path) -> None:
    for kind, path in bad_files(tmp_path).items():
        if path.is_file():
            with pytest.raises(ImageError) as of_file:
                read_image(path, SAME)
            with pytest.raises(ImageError) as of_bytes:
                read_image(path.read_bytes(), SAME)
            assert of_bytes.value.reason.replace("<bytes>", str(path)) == of_file.value.reason, kind
            assert str(of_bytes.value).startswith("<bytes>: "), kind
