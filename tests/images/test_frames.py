"""Images in memory: the same picture is the same pixels, however it is given; what is no image is refused in words."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from blemish.errors import ImageError, SourceError
from blemish.images import Frame, Geometry, each, only, read_image, read_size
from blemish.images.reading import whole_image

SAME = Geometry(32, 40)


def pixels(channels: int = 3) -> np.ndarray:
    shape = (32, 40) if channels == 1 else (32, 40, channels)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_the_same_picture_is_the_same_pixels_however_it_is_given(tmp_path: Path) -> None:
    image = pixels()
    Image.fromarray(image).save(tmp_path / "x.png")
    lazy = Image.open(tmp_path / "x.png")  # not decoded yet
    channels_first = torch.from_numpy(image).permute(2, 0, 1)
    ways = {
        "file": tmp_path / "x.png",
        "bytes": (tmp_path / "x.png").read_bytes(),
        "Pillow's": lazy,
        "uint8": image,
        "view": np.ascontiguousarray(image[::-1])[::-1],
        "float32 to 1": image.astype(np.float32) / 255,
        "float16 to 1": (image / 255).astype(np.float16),
        "float64 to 255": image.astype(float),
        "tensor": channels_first,
        "tensor, channels last": torch.from_numpy(image),
        "tensor to 1": channels_first / 255,
        "tensor with gradients": (channels_first / 255).requires_grad_(),
        "tensor, bfloat16 to 255": channels_first.bfloat16(),
        "16 bits": image.astype(np.uint16) * 257,
        "rounding beyond 1": image.astype(np.float32) / 255 * np.float32(1.0000002),
    }
    for name, given in ways.items():
        found = read_image(only(given), SAME)  # type: ignore[arg-type]
        assert np.array_equal(found, image), name


def test_blue_first_is_said_and_counts_for_arrays_and_tensors_alone() -> None:
    image = pixels()
    for given in (image[..., ::-1], torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1)):
        assert np.array_equal(read_image(only(given, bgr=True), SAME), image)  # type: ignore[arg-type]
    assert np.array_equal(read_image(only(Image.fromarray(image), bgr=True), SAME), image)  # type: ignore[arg-type]
    opaque = np.dstack([image[..., ::-1], np.full((32, 40), 255, np.uint8)])
    assert np.array_equal(read_image(only(opaque, bgr=True), SAME), image)  # type: ignore[arg-type]
    assert np.array_equal(read_image(only(pixels(1), bgr=True), SAME)[..., 0], pixels(1))  # type: ignore[arg-type]


def test_grey_is_repeated_and_transparency_is_drawn_on_black() -> None:
    grey = np.repeat(pixels(1)[..., None], 3, 2)
    for given in (pixels(1), pixels(1)[..., None], pixels(1) / 255, torch.from_numpy(pixels(1))[None]):
        assert np.array_equal(read_image(only(given), SAME), grey)  # type: ignore[arg-type]
    clear = np.dstack([pixels(), np.zeros((32, 40), np.uint8)])
    for given in (clear, clear / 255, Image.fromarray(clear)):
        assert not read_image(only(given), SAME).any()  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK", "YCbCr", "I;16", "HSV"])
def test_every_mode_of_pillows_is_read_as_from_a_file(mode: str, tmp_path: Path) -> None:
    if mode == "I;16":
        image = Image.fromarray(pixels(1).astype(np.uint16) * 200)
    else:
        image = Image.fromarray(pixels()).convert("L" if mode == "LA" else "RGB").convert(mode)
    found = read_image(only(image), SAME)  # type: ignore[arg-type]
    if mode in {"YCbCr", "HSV"}:  # no format that is read has them
        assert np.array_equal(found, np.asarray(image.convert("RGB")))
        return
    path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    image.save(path)
    assert np.array_equal(found, read_image(path, SAME))


def test_a_rotation_by_exif_is_applied_and_the_image_that_was_given_is_not_changed() -> None:
    image = Image.fromarray(pixels())
    image.getexif()[0x0112] = 6
    upright = np.rot90(pixels(), -1)
    assert np.array_equal(read_image(Frame(image), Geometry(40, 32)), upright)
    assert read_size(Frame(image)) == (40, 32)
    assert image.size == (40, 32), "as it was: width 40, height 32"
    with whole_image(Frame(image)) as whole:
        assert np.array_equal(np.asarray(whole), upright)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (np.full((32, 40), np.nan), "not finite"),
        (np.full((32, 40, 3), np.inf, np.float32), "not finite"),
        (np.full((32, 40), -0.5), "values from -0.5"),
        (np.full((32, 40), 256.0), "to 256"),
        (np.full((32, 40), 1.3), "clip them"),
        (np.ones((32, 40), bool), "type bool"),
        (np.ones((32, 40), np.int64), "astype"),
        (np.ones((32, 40), complex), "type complex128"),
        (np.ones(32, np.uint8), r"shape \(32,\)"),
        (np.ones((3, 32, 40), np.uint8), r"shape \(3, 32, 40\)"),
        (np.ones((32, 40, 2), np.uint8), r"shape \(32, 40, 2\)"),
        (np.ones((0, 40, 3), np.uint8), r"shape \(0, 40, 3\)"),
        (torch.ones(2, 32, 40), r"shape \(2, 32, 40\)"),
        (Image.fromarray(np.ones((32, 40), np.float32)), "floating-point"),
        (Image.new("RGB", (0, 5)), "no pixels"),
        (np.broadcast_to(np.uint8(3), (200_000, 200_000, 3)), "is 200000x200000, more than the limit"),
        (np.broadcast_to(np.float32(0.3), (200_000, 200_000)), "is 200000x200000, more than the limit"),
        (torch.ones(3, 32, 40, device="meta"), "device meta; give a dense one with values"),
        (torch.ones(3, 32, 40).to_sparse(), "layout torch.sparse_coo"),
        (torch.ones(3, 32, 40, dtype=torch.complex64).conj(), "type complex64"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_is_no_image_is_refused_in_words(given: object, expected: str) -> None:
    with pytest.raises(ImageError, match=expected):
        read_image(only(given), SAME)  # type: ignore[arg-type]


def test_a_file_of_pillows_that_is_cut_or_closed_is_refused_in_words(tmp_path: Path) -> None:
    Image.fromarray(pixels()).save(tmp_path / "x.png")
    cut = tmp_path / "cut.png"
    cut.write_bytes((tmp_path / "x.png").read_bytes()[:1500])
    closed = Image.open(tmp_path / "x.png")
    closed.close()
    for image in (Image.open(cut), closed):
        with image, pytest.raises(ImageError, match="cannot be decoded"):
            read_image(Frame(image), SAME)


def test_a_tensor_that_torch_keeps_with_its_sign_turned_has_the_values_that_it_shows() -> None:
    shown = torch.from_numpy(pixels() / 255)
    turned = torch._neg_view(-shown)
    assert turned.is_neg()
    assert np.array_equal(read_image(only(turned), SAME), pixels())  # type: ignore[arg-type]


def test_grey_with_premultiplied_transparency_is_read() -> None:
    image = Image.fromarray(pixels(1)).convert("LA")
    premultiplied = image.convert("La")
    assert np.array_equal(read_image(Frame(premultiplied), SAME), read_image(Frame(image), SAME))


def test_an_open_file_and_a_dictionary_are_refused_and_not_taken_apart(tmp_path: Path) -> None:
    Image.fromarray(pixels()).save(tmp_path / "x.png")
    with (tmp_path / "x.png").open("rb") as file, pytest.raises(SourceError, match="is an open file; give its path"):
        [*each(file)]  # type: ignore[arg-type]
    with pytest.raises(SourceError, match="dict is no image"):
        [*each({"x.png": pixels()})]


def test_arrays_are_read_while_another_thread_imports_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", ModuleType("torch"))  # as far as it is at first
    assert np.array_equal(read_image(Frame(pixels()), SAME), pixels())


def test_batches_and_lists_are_taken_apart_in_order() -> None:
    image = pixels()
    batch = np.stack([image, 255 - image])
    tensor = torch.from_numpy(batch).permute(0, 3, 1, 2)
    found = [read_image(one, SAME) for one in each([batch, [tensor, image]])]  # type: ignore[arg-type,list-item]
    assert [np.array_equal(one, image) for one in found] == [True, False, True, False, True]
    assert not [*each([])]
    with pytest.raises(SourceError, match="several"):
        only(batch)
    with pytest.raises(SourceError, match="none"):
        only(batch[:0])
    with pytest.raises(SourceError, match="int is no image"):
        [*each([image, 5])]  # type: ignore[list-item]


def test_a_generator_may_write_its_frames_into_one_array() -> None:
    def camera() -> Iterator[np.ndarray]:
        frame = np.zeros((32, 40, 3), np.uint8)
        for level in range(3):
            frame[:] = level
            yield frame

    kept = [*each(camera())]
    assert [read_image(one, SAME).max() for one in kept] == [0, 1, 2]  # type: ignore[arg-type]
