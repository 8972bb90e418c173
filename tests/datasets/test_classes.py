from __future__ import annotations

import gzip
import pickle  # to write what must be read without it
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import blemish
from blemish.datasets import classes, read_source
from blemish.datasets.check import check_source
from blemish.errors import ImageError, SourceError
from blemish.images import Geometry, read_image, read_size
from blemish.images.array_files import read_images, read_labels, read_member

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (40, 28, 28), dtype=np.uint8)
LABELS = np.arange(40) % 4
COLOURS = RNG.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)


def idx(values: np.ndarray) -> bytes:
    return struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.astype(np.uint8).tobytes()


def batch(images: np.ndarray, labels: list[int], protocol: int = 2) -> bytes:
    rows = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    content = {b"batch_label": b"batch 1", b"labels": labels, b"data": rows, b"filenames": [b"a.png"] * len(images)}
    return pickle.dumps(content, protocol)


@pytest.fixture
def npz(tmp_path: Path) -> Path:
    np.savez(tmp_path / "digits.npz", x_train=IMAGES, y_train=LABELS, x_test=IMAGES[:12], y_test=LABELS[:12])
    return tmp_path / "digits.npz"


@pytest.fixture(params=["idx", "idx.gz", "cifar", "folders", "npz"])
def source(request: pytest.FixtureRequest, tmp_path: Path, npz: Path) -> Path:
    """The same few images in each of the formats."""
    root = tmp_path / "data"
    root.mkdir()
    if request.param == "npz":
        return npz
    if request.param.startswith("idx"):
        for part, images, labels in (("train", IMAGES, LABELS), ("t10k", IMAGES[:12], LABELS[:12])):
            for name, content in ((f"{part}-images-idx3-ubyte", images), (f"{part}-labels-idx1-ubyte", labels)):
                packed = request.param == "idx.gz"
                raw = gzip.compress(idx(content)) if packed else idx(content)
                (root / (name + (".gz" if packed else ""))).write_bytes(raw)
    elif request.param == "cifar":
        colours = IMAGES[:, :1, :1, None] + np.zeros((1, 32, 32, 3), np.uint8)
        (root / "data_batch_1").write_bytes(batch(colours[:24], LABELS[:24].tolist()))
        (root / "data_batch_2").write_bytes(batch(colours[24:], LABELS[24:].tolist()))
        (root / "test_batch").write_bytes(batch(colours[:12], LABELS[:12].tolist()))
    else:
        for part, count in (("train", 40), ("test", 12)):
            for number in range(count):
                folder = root / part / str(LABELS[number])
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(IMAGES[number]).save(folder / f"{number}.png")
    return root


def test_one_class_trains_and_all_are_tested_whatever_the_format(source: Path) -> None:
    assert classes(str(source)) == ["0", "1", "2", "3"]
    dataset = read_source(f"one_class:{source}:2")
    assert len(dataset.train) == 10
    assert len(dataset.test) == 12
    assert sorted({sample.kind for sample in dataset.test}) == ["0", "1", "3", "good"]
    assert sum(sample.is_anomalous for sample in dataset.test) == 9
    for sample in (*dataset.train, *dataset.test):
        assert read_image(sample.path, Geometry(32, 32)).shape == (32, 32, 3)
    with pytest.raises(
        SourceError, match="has 0 training images of class '7', and 2 are needed; its classes are 0, 1, 2, 3"
    ):
        read_source(f"one_class:{source}:7")


def test_check_looks_at_images_in_files_of_many_and_finds_copies_and_leaks(source: Path) -> None:
    found = check_source(f"one_class:{source}:2")
    dataset, findings = found.dataset, found.findings
    said = [finding.what for finding in findings]
    leaks = [what for what in said if what.endswith(", a training image")]
    good = [read_image(sample.path, Geometry(32, 32)) for sample in dataset.test if not sample.is_anomalous]
    assert len(leaks) == len(good) > 0, "the first 12 are in both parts"
    assert sum(what.startswith("under 64 pixels") for what in said) == 22
    assert not any("under another suffix" in what for what in said)
    assert not any(finding.stops_fit for finding in findings)


def test_the_same_image_twice_in_a_file_of_many_is_found(tmp_path: Path) -> None:
    twice = np.concatenate([IMAGES, IMAGES[:1]])
    labels = np.append(LABELS, LABELS[0])
    np.savez(tmp_path / "a.npz", x_train=twice, y_train=labels, x_test=IMAGES[1:2], y_test=LABELS[1:2])
    findings = check_source(f"one_class:{tmp_path / 'a.npz'}:0").findings
    (copy,) = [finding for finding in findings if "the same" in finding.what]
    assert (copy.where, copy.what) == (
        str(tmp_path / "a.npz" / "x_train" / "40"),
        f"is the same image as {tmp_path / 'a.npz' / 'x_train' / '0'}",
    )


def test_a_member_is_the_image_itself(npz: Path) -> None:
    found = read_member(npz / "x_train" / "17")
    assert found is not None
    assert np.array_equal(found, IMAGES[17])
    assert read_size(npz / "x_train" / "17") == (28, 28)
    expected = read_image(IMAGES[17], Geometry(32, 32))
    assert np.array_equal(read_image(npz / "x_train" / "17", Geometry(32, 32)), expected)
    assert read_member(npz / "x_train" / "one") is None
    assert read_member(npz.parent / "17") is None


@pytest.mark.parametrize("protocol", [1, 2, 3, 4, 5])
def test_cifars_batches_are_read_without_unpickling(tmp_path: Path, protocol: int) -> None:
    (tmp_path / "data_batch_1").write_bytes(batch(COLOURS, list(range(20)), max(protocol, 2)))
    assert np.array_equal(read_images(tmp_path / "data_batch_1"), COLOURS)
    assert read_labels(tmp_path / "data_batch_1").tolist() == list(range(20))


def test_a_batch_with_instructions_is_not_obeyed(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str, ...]]:
            return (Path.touch, (str(tmp_path / "obeyed"),))

    (tmp_path / "data_batch_1").write_bytes(pickle.dumps({b"labels": Evil()}))
    with pytest.raises(SourceError, match="holds no images of 32x32"):
        read_images(tmp_path / "data_batch_1")
    assert not (tmp_path / "obeyed").exists()


def damaged(folder: Path) -> list[tuple[Path, str, str]]:
    """Files, the array asked for, and what is said of them."""
    contents = {
        "short.idx": (idx(IMAGES)[:-1], "is cut short, 31,359 of 31,360 bytes"),
        "header.idx": (b"\0\0\x08", "cannot be read"),
        "floats.idx": (struct.pack(">HBBI", 0, 13, 1, 4), "is not an idx file of bytes"),
        "flat.idx": (struct.pack(">HBBII", 0, 8, 2, 4, 4), "is not an idx file of bytes"),
        "large.idx": (struct.pack(">HBBIII", 0, 8, 3, 1 << 31, 1 << 10, 28), "more than the limit"),
        "packed.gz": (gzip.compress(idx(IMAGES))[:-900], "cannot be read"),
        "text.gz": (b"words", "cannot be read"),
        "words.npz": (b"words", "cannot be read"),
        "cut.batch": (batch(COLOURS, list(range(20)))[:-50_000], "cannot be read"),
    }
    found = []
    for name, (content, message) in contents.items():
        (folder / name).write_bytes(content)
        found.append((folder / name, "x_train", message))
    np.savez(folder / "other.npz", x_test=IMAGES)
    np.savez(folder / "floats.npz", x_train=IMAGES.astype(float))
    np.savez(folder / "objects.npz", x_train=np.array([{}], object))
    return [
        *found,
        (folder / "other.npz", "x_train", "x_train cannot be read"),
        (folder / "floats.npz", "x_train", "not uint8"),
        (folder / "objects.npz", "x_train", "cannot be read"),
    ]


def test_damaged_files_are_named_with_what_is_wrong(tmp_path: Path) -> None:
    for file, array, message in damaged(tmp_path):
        with pytest.raises(SourceError, match=message) as caught:
            read_images(file, array)
        assert str(file) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_an_array_that_would_fill_the_memory_is_refused_by_its_header(tmp_path: Path) -> None:
    with (
        zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("x_train.npy", "w", force_zip64=True) as member,
    ):
        for _ in range(1100):
            member.write(bytes(1 << 20))
    with pytest.raises(SourceError, match="more than the limit"):
        read_images(tmp_path / "bomb.npz", "x_train")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("one_class:digits.npz", "names no class; give one_class:PATH:CLASS"),
        ("one_class:nowhere.npz:3", "no such file or folder"),
        ("one_class:file.txt:3", "is not an npz file"),
        ("one_class:empty:3", "has no train-images-idx3-ubyte"),
    ],
)
def test_what_is_no_such_data_set_is_refused(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.txt").write_text("words")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match=message):
        read_source(text)


def test_images_and_labels_must_be_as_many(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x_train=IMAGES, y_train=LABELS[:-1], x_test=IMAGES, y_test=LABELS)
    with pytest.raises(SourceError, match="has 40 images and 39 labels"):
        read_source(f"one_class:{tmp_path / 'a.npz'}:1")


def test_a_member_beyond_the_last_is_an_error_of_that_image(npz: Path) -> None:
    with pytest.raises(ImageError, match="the file has 40 images, counted from 0"):
        read_image(npz / "x_train" / "40", Geometry(32, 32))


def test_a_model_is_fitted_and_evaluated_on_one_class(data: Path) -> None:
    source = f"one_class:{data / 'mnist' / 'mnist.npz'}:1"
    dataset = read_source(source)
    assert (len(dataset.train), len(dataset.test)) == (6742, 10000)
    dataset.train[:] = dataset.train[:100]
    dataset.test[:] = dataset.test[::100]
    model = blemish.fit(dataset, detector="fre", size=64)
    found = blemish.evaluate(model, dataset)
    assert (found.image["auroc"] or 0) > 0.97


def test_a_damaged_file_of_many_images_is_refused_in_a_line_wherever_the_damage_is(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    np.savez_compressed(tmp_path / "a.npz", x_train=IMAGES, y_train=LABELS)
    contents = {
        "a.npz": (tmp_path / "a.npz").read_bytes(),
        "a.idx": idx(IMAGES[:8]),
        "a.gz": gzip.compress(idx(IMAGES[:8])),
        "data_batch_1": batch(COLOURS[:4], [0, 1, 2, 3]),
    }
    refused: list[tuple[Path, str]] = []
    for name, whole in contents.items():
        file = tmp_path / f"damaged-{name}"
        for trial in range(60):
            spoiled = bytearray(whole)
            at = int(rng.integers(len(whole) if trial % 2 else min(200, len(whole))))  # most of a format is in front
            spoiled[at] = int(rng.integers(256))
            file.write_bytes(spoiled if trial % 3 else spoiled[:at])
            try:
                read_images(file, "x_train")
                read_labels(file, "y_train")
            except SourceError as error:
                refused.append((file, str(error)))
    assert len(refused) > 60
    assert all(str(file) in told and "\n" not in told for file, told in refused)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x_train": IMAGES[:0], "y_train": LABELS[:0]}, "x_train holds no images"),
        ({"x_train": IMAGES[:, :0]}, "x_train holds no images"),
        ({"y_train": LABELS.astype(float)}, "y_train has float64, not whole numbers"),
        ({"y_train": np.eye(4, dtype=int)[LABELS]}, "has 40 images and 160 labels"),
        ({"x_train": np.array([IMAGES[0], IMAGES[1, :5]], object)}, "x_train cannot be read"),
        ({"y_train": np.array([9, *LABELS[1:]])}, "has 1 training image of class '9', and 2 are needed"),
    ],
    ids=["empty", "no rows", "labels with fractions", "labels as vectors", "ragged", "one image of the class"],
)
def test_arrays_that_are_no_images_and_labels_are_refused(
    arrays: dict[str, np.ndarray], message: str, tmp_path: Path
) -> None:
    whole = {"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES[:3], "y_test": LABELS[:3]}
    np.savez(tmp_path / "a.npz", **{**whole, **arrays})
    with pytest.raises(SourceError, match=message):
        read_source(f"one_class:{tmp_path / 'a.npz'}:9")
