"""Images elsewhere: the same pixels, few requests, and one line where they cannot be had."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blemish.errors import ImageError
from blemish.images import (
    Geometry,
    Remote,
    count_tiles,
    decode_ahead,
    read_header,
    read_image,
    read_proportion,
    read_size,
    read_tiles,
)
from blemish.images import remote as remote_images
from conftest import part
from elsewhere import Watched, put, refusing

GEOMETRY = Geometry(64, 64)
SUFFIXES = ("png", "jpg", "bmp", "webp", "tif")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small and a large image of each format, and what is no image."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for size in (80, 400):
        pixels = part(rng, size)[: size - 16]
        for suffix, options in (("png", {}), ("jpg", {"quality": 98}), ("bmp", {}), ("webp", {"lossless": True})):
            Image.fromarray(pixels).save(folder / f"{size}.{suffix}", **options)
        Image.fromarray(pixels).save(folder / f"{size}.tif", compression="tiff_lzw")
    (folder / "empty.png").touch()
    (folder / "noise.png").write_bytes(rng.bytes(1000))
    (folder / "cut.png").write_bytes((folder / "400.png").read_bytes()[:90_000])
    put(folder, "watched://images")
    return folder


def elsewhere(name: str) -> Remote:
    return Remote(f"watched://images/{name}")


@pytest.mark.parametrize("name", [f"{size}.{suffix}" for size in (80, 400) for suffix in SUFFIXES])
def test_an_image_elsewhere_has_the_pixels_and_the_header_that_its_file_has(images: Path, name: str) -> None:
    assert (read_image(elsewhere(name), GEOMETRY) == read_image(images / name, GEOMETRY)).all()
    assert (read_image(f"watched://images/{name}", GEOMETRY) == read_image(images / name, GEOMETRY)).all()
    assert read_size(elsewhere(name)) == read_size(images / name)
    assert read_proportion(elsewhere(name)) == read_proportion(images / name)
    here, there = read_header(images / name, GEOMETRY), read_header(elsewhere(name), GEOMETRY)
    assert (there.height, there.width) == (here.height, here.width)
    length = (images / name).stat().st_size
    assert there.decoding == here.decoding + 2 * length, "the fetched bytes count as memory"


def test_a_photograph_elsewhere_has_the_tiles_that_its_file_has(images: Path) -> None:
    tiled = Geometry(64, 64, tile=128, overlap=16)
    assert count_tiles(elsewhere("400.png"), tiled) == count_tiles(images / "400.png", tiled)
    here, there = (list(read_tiles(image, tiled)) for image in (images / "400.png", elsewhere("400.png")))
    assert [place for place, _ in there] == [place for place, _ in here]
    assert all((one == other).all() for (_, one), (_, other) in zip(here, there, strict=True))


def test_a_header_costs_one_request_and_pixels_at_most_two(images: Path) -> None:
    length = (images / "400.png").stat().st_size
    assert length > remote_images.HEAD
    image = Remote("watched://images/400.png", length)
    Watched.asked.clear()
    read_proportion(image)
    assert Watched.asked == [("/images/400.png", 0, remote_images.HEAD)]
    Watched.asked.clear()
    read_image(image, GEOMETRY)
    assert [end - start for _, start, end in Watched.asked if start is not None and end is not None] == [
        remote_images.HEAD,
        length - remote_images.HEAD,
    ]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("empty.png", "is empty"),
        ("noise.png", "is not an image of a known format"),
        ("cut.png", "cannot be decoded"),
        ("absent.png", "does not exist"),
    ],
)
def test_what_is_wrong_with_an_image_elsewhere_is_told_in_one_line(images: Path, name: str, words: str) -> None:
    with pytest.raises(ImageError, match=words) as caught:
        read_image(elsewhere(name), GEOMETRY)
    assert str(caught.value).startswith(f"watched://images/{name}: ")
    assert "\n" not in str(caught.value)
    assert caught.value.path == elsewhere(name)


def test_a_file_beyond_the_limit_is_refused_before_a_byte_is_read(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blemish.images.files.MAX_BYTES", 50_000)
    Watched.asked.clear()
    with pytest.raises(ImageError, match="more than the limit"):
        read_image(elsewhere("400.bmp"), GEOMETRY)
    assert Watched.asked == []


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError("Access Denied"), r"credentials do not allow it \(Access Denied\)"),
        (ConnectionError("Connection reset"), r"cannot be reached \(Connection reset\)"),
        (RuntimeError("the body\nhas two lines"), r"cannot be reached \(the body\)"),
    ],
)
def test_a_failed_request_is_the_error_of_its_image_and_others_are_read(
    images: Path, error: Exception, words: str
) -> None:
    wanted = [elsewhere("80.png"), elsewhere("80.jpg"), elsewhere("80.bmp")]
    with refusing("80.jpg", error):
        found = list(decode_ahead(lambda image: read_image(image, GEOMETRY), wanted))
    assert [isinstance(image, ImageError) for image in found] == [False, True, False]
    with pytest.raises(ImageError, match=words):
        raise found[1]  # type: ignore[misc]


def test_an_image_that_was_cut_short_since_the_listing_is_an_error(images: Path) -> None:
    with pytest.raises(ImageError, match="was changed while it was read"):
        read_image(Remote("watched://images/80.bmp", 10_000_000), GEOMETRY)


def test_an_open_image_reads_as_its_file_does(images: Path) -> None:
    content = (images / "400.bmp").read_bytes()
    file = remote_images.RemoteFile(elsewhere("400.bmp"), len(content))
    plain = io.BytesIO(content)
    for offset, whence, count in ((0, 0, 10), (5, 1, 70_000), (-20, 2, 50), (10, 2, 5), (3, 0, -1)):
        assert file.seek(offset, whence) == plain.seek(offset, whence)
        assert file.read(count) == plain.read(count)
        assert file.tell() == plain.tell()


def test_names_are_those_of_a_path() -> None:
    image = Remote("s3://bucket/a/000.tar.png", 5)
    assert (image.name, image.stem, image.suffix) == ("000.tar.png", "000.tar", ".png")
    assert image.parts == ("s3://", "bucket", "a", "000.tar.png")
    assert image == Remote("s3://bucket/a/000.tar.png")
