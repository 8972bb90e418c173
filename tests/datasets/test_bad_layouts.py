"""What is wrong with a data set or with its labels is one line: what was found, where, and what was expected."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import made_up
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from blemish.datasets import read_source, read_truth
from blemish.datasets.arrays import MAX_LABELS, read_frame, read_labels
from blemish.datasets.marks import Masks, TrueBoxes
from blemish.errors import BlemishError, ImageError, SourceError
from blemish.images import Geometry

Spoil = Callable[[Path], object]


def gone(name: str) -> Spoil:
    """Removes a file or a folder."""

    def spoil(root: Path) -> None:
        path = root / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return spoil


def text(name: str, content: str | bytes) -> Spoil:
    return lambda root: (root / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def split(line: str) -> Spoil:
    """A table of VisA with one line more."""

    def spoil(root: Path) -> None:
        with (root.parent / "split_csv/1cls.csv").open("a") as file:
            file.write(line)

    return spoil


def label(line: str | bytes) -> Spoil:
    return text("labels/flight/2.txt", line)


def entry(place: str, value: Any) -> Spoil:
    """COCO's JSON with another value at a place such as `images.0.id`."""

    def spoil(root: Path) -> None:
        file = root / "annotations/sea.json"
        content = json.loads(file.read_text())
        *way, last = (int(part) if part.isdecimal() else part for part in place.split("."))
        inner = content
        for part in way:
            inner = inner[part]
        inner[last] = value
        file.write_text(json.dumps(content))

    return spoil


def labels(name: str, values: np.ndarray) -> Spoil:
    return lambda root: np.save(root / "testing" / name / "01_0014.npy", values)


def renamed(before: str, after: str) -> Spoil:
    return lambda root: (root / before).rename(root / after)


GEOMETRY = Geometry(32, 40)
FEW = np.zeros(2, np.int8)

BAD: list[tuple[str, Spoil, str]] = [
    ("mvtec", gone("train/good"), "no train/good in this tree"),
    ("mvtec", gone("ground_truth/hole/000_mask.png"), "000.png: has no mask; expected .*hole/000_mask.png"),
    ("btad", gone("ground_truth/ko/000.png"), "has no mask; expected .*ground_truth/ko/000_mask.png"),
    ("btad", gone("train/ok"), "no train/ok in this tree"),
    ("btad", renamed("test/ko", "test/good"), "test/good: holds images that are not good by this layout"),
    ("mvtec_ad2", gone("test_public/ground_truth/bad"), "has no mask; expected .*bad/000_regular_mask.png"),
    ("mvtec_loco", gone("ground_truth/logical_anomalies/000"), "expected .*logical_anomalies/000/000.png"),
    ("visa", gone("../split_csv"), "no split of this data set; expected .*1cls.csv"),
    (
        "visa",
        text("../split_csv/1cls.csv", "a,b\n1,2\n"),
        "has the columns 'a,b'; expected object,",
    ),
    ("visa", text("../split_csv/1cls.csv", b"\xff\xfe"), "is not a text in UTF-8"),
    (
        "visa",
        text("../split_csv/1cls.csv", "object,split,label,image,mask\n"),
        "no training image",
    ),
    ("visa", split("candle,test,normal\n"), "line 14: has another number of values than columns; expected 5"),
    ("visa", split("candle,test,odd,a.JPG,\n"), "line 14: has 'test, odd'; expected train or test"),
    ("visa", split("candle,test,normal,/etc/passwd,\n"), "'/etc/passwd' does not lie below"),
    ("visa", split("candle,test,normal,candle/../../a.JPG,\n"), "does not lie below"),
    ("visa", split("candle,test,anomaly,candle/a.JPG,candle/b.png\n"), "line 14: an anomalous image has no mask"),
    ("visa", split('candle,test,normal,"a\n'), "cannot be read as a table"),
    ("ksdd", gone("kos02/Part0_label.bmp"), "kos02/Part0.jpg: has no mask; expected .*Part0_label.bmp"),
    ("ksdd", text("kos02/Part0_label.bmp", "no image"), "Part0_label.bmp: is not an image of a known format"),
    ("ksdd2", gone("train/10002_GT.png"), "10002.png: has no mask; expected .*10002_GT.png"),
    ("ksdd2", gone("test"), "test: no such folder"),
    ("dagm", gone("Train/Label"), "Train: no masks; expected .*Train/Label"),
    ("dagm", gone("Test/Label/0002_label.PNG"), "Labels.txt: names 0002_label.png, which is not there"),
    ("dagm", gone("Test/0002.PNG"), "0002_label.PNG: has no image"),
    ("stc", gone("training"), "videos are not decoded here: extract their frames"),
    ("stc", gone("testing/test_frame_mask/01_0014.npy"), "01_0014.npy: cannot be read"),
    ("stc", labels("test_frame_mask", FEW), "01_0014: has 3 frames and 2 labels; extract the frames again"),
    ("stc", labels("test_pixel_mask", np.zeros((2, 64, 80), bool)), "01_0014: has 3 frames and 2 masks"),
    ("stc", text("testing/test_pixel_mask/01_0014.npy", "none"), "01_0014.npy: is not an npy file"),
    ("coco", gone("annotations"), "has these JSON files: none; give the one to read"),
    ("coco", lambda root: shutil.copy(root / "annotations/sea.json", root / "b.json"), "JSON files: b.json, sea.json"),
    ("coco", gone("images"), "its first image, 0.jpg, is neither in"),
    ("coco", text("annotations/sea.json", "[1, 2"), "sea.json: cannot be read .it is not JSON"),
    ("coco", text("annotations/sea.json", "[" * 200_000), "64 lists and objects within one another"),
    ("coco", text("annotations/sea.json", "[1]"), "sea.json: holds list; expected COCO's object"),
    ("coco", text("annotations/sea.json", '{"categories": [], "images": NaN}'), "NaN is not a number"),
    ("coco", entry("images", {}), "sea.json: images is dict; expected a list"),
    ("coco", entry("images", []), r"annotations\[0\].image_id: no image has the id 9"),
    ("coco", entry("images.1", 5), r"images\[1\]: is 5; expected an object"),
    (
        "coco",
        entry("categories.1", {"id": 1, "name": "a"}),
        r"categories\[1\].id: 1 is also the id of another category",
    ),
    ("coco", entry("images.1.id", 7), r"images\[1\].id: 7 is also the id of another image"),
    ("coco", entry("images.1.id", 1.5), r"images\[1\].id: is 1.5; expected a whole number"),
    ("coco", entry("images.1.id", 10**30), r"images\[1\].id: is 1000"),
    ("coco", entry("images.1.height", 0), r"images\[1\]: is 0x80 pixels; expected 1 to 160,000,000"),
    ("coco", entry("images.1.height", 10**8), r"images\[1\]: is 100000000x80 pixels"),
    ("coco", entry("images.1.width", None), r"images\[1\].width: is absent; expected a whole number"),
    ("coco", entry("images.1.file_name", None), r"images\[1\].file_name: is absent; expected the name of a file"),
    ("coco", entry("images.1.file_name", "0.jpg"), "'0.jpg' is also that of another image"),
    ("coco", entry("images.1.file_name", "../../secret.jpg"), "image 8: '../../secret.jpg' does not lie below"),
    ("coco", entry("images.1.file_name", "C:\\secret.jpg"), "does not lie below"),
    ("coco", entry("images.1.file_name", "\ud800.jpg"), r"'\\ud800.jpg' does not lie below"),
    ("coco", entry("annotations.0.image_id", 99), r"annotations\[0\].image_id: no image has the id 99"),
    ("coco", entry("annotations.0.category_id", 99), r"annotations\[0\].category_id: no category has the id 99"),
    ("coco", entry("annotations.0.category_id", True), "category_id: is True; expected a whole number"),
    ("coco", entry("annotations.0.bbox", [1, 2, 3]), r"bbox: is list; expected \[x, y, width, height\]"),
    ("coco", entry("annotations.0.bbox", ["1", 2, 3, 4]), "bbox: has '1'; expected four numbers of pixels"),
    ("coco", entry("annotations.0.bbox", [1e300, 2, 3, 4]), r"bbox: has 1e\+300; expected four numbers of pixels"),
    ("coco", entry("annotations.0.bbox", [1, 2, 0, 4]), "bbox: is 0 wide and 4 high; expected more than 0"),
    ("coco", entry("annotations.0.bbox", [80, 2, 3, 4]), "bbox: lies outside its image of 64x80"),
    ("coco", entry("categories.1.name", "good"), r"categories\[1\].name: a class of boxes cannot be 'good'"),
    ("coco", entry("categories.1.name", "a\nb"), r"categories\[1\].name: is no name of a class"),
    ("yolo", gone("labels"), "no labels; expected .*labels/flight/0.txt"),
    ("yolo", gone("images"), "no images in this folder"),
    ("yolo", gone("images/flight/2.jpg"), "2.txt: has no image of its name; put the image there"),
    ("yolo", label("1 0.5 0.5 0.1"), "2.txt, line 1: has 4 numbers; expected five"),
    ("yolo", label("\n1 0.1 0.1 0.2 0.2 0.3 0.3\n"), "2.txt, line 2: has 7 numbers; expected five"),
    ("yolo", label("1 0.5 0.5 0.1 much"), "line 1: '0.5 0.5 0.1 much' are not four numbers"),
    ("yolo", label("1 0.5 0.5 nan 0.1"), "line 1: is nan wide"),
    ("yolo", label("1 0.5 0.5 0.1 -0.1"), "line 1: is 0.1 wide and -0.1 high; expected shares"),
    (
        "yolo",
        label("1 320 240 50 50"),
        "line 1: leaves its image; expected shares of the image from 0 to 1",
    ),
    ("yolo", label("-1 0.5 0.5 0.1 0.1"), "line 1: the class is '-1'; expected a whole number from 0"),
    ("yolo", label("2 0.5 0.5 0.1 0.1"), "line 1: the class is 2, and there are names of 2, from 0"),
    ("yolo", label("1 0.5 0.5 0.1 0.1\n" * 10_001), "has 10,001 boxes in 2.jpg, more than the limit of 10,000"),
    ("yolo", text("labels/classes.txt", "good\n"), "classes.txt, line 1: a class of boxes cannot be 'good'"),
    ("yolo", label("x" * (5 << 20)), "2.txt: has 5,242,880 bytes, more than the limit of 4,194,304"),
]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A sound tree for each layout; not to be changed."""
    folder = tmp_path_factory.mktemp("sound")
    return {name: getattr(made_up, name)(folder / name) for name in {layout for layout, _, _ in BAD}}


@pytest.fixture(scope="module")
def own(sound: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Copies of two of them, to be changed."""
    folder = tmp_path_factory.mktemp("own")
    return {name: Path(shutil.copytree(sound[name], folder / name)) for name in ("coco", "yolo")}


@pytest.mark.parametrize(("layout", "spoil", "said"), BAD, ids=[f"{layout}-{said[:40]}" for layout, _, said in BAD])
def test_a_spoiled_data_set_is_refused_in_one_line(
    layout: str, spoil: Spoil, said: str, sound: dict[str, Path], tmp_path: Path
) -> None:
    top = next(parent for parent in (sound[layout], *sound[layout].parents) if parent.name == layout)
    shutil.copytree(top, tmp_path / layout)
    root = tmp_path / layout / sound[layout].relative_to(top)
    spoil(root)
    with pytest.raises(SourceError, match=said) as caught:
        read_source(f"{layout}:{root}")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def saved(file: Path, values: np.ndarray, *, pickled: bool = False) -> Path:
    np.save(file, values, allow_pickle=pickled)
    return file


def test_array_files_are_never_unpickled_and_never_believed(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    file = tmp_path / "a.npy"
    cases: list[tuple[Callable[[], object], str]] = [
        (lambda: saved(file, np.array([Trap()], object), pickled=True), r"holds numbers of type '\|O'; expected whole"),
        (lambda: saved(file, np.zeros((2, 3, 4))), "holds numbers of type '<f8'; expected whole ones"),
        (lambda: saved(file, np.zeros((3, 4), np.int8)), r"has the shape \(3, 4\); expected \(frames, height, width\)"),
        (lambda: saved(file, np.zeros((0, 3, 4), np.int8)), r"has the shape \(0, 3, 4\); expected sides of 1 or more"),
        (lambda: saved(file, np.asfortranarray(np.zeros((2, 3, 4), bool))), "is stored by columns"),
        (lambda: file.write_bytes(zipped(tmp_path / "b.npz")), "is not an npy file"),
        (lambda: file.write_bytes(b""), "is not an npy file"),
        (lambda: file.write_bytes(saved(file, np.ones((2, 3, 4), bool)).read_bytes()[:-1]), "is cut short"),
        (lambda: file.write_bytes(header("(9, 99999, 99999)")), "more than the limit of 160,000,000 pixels"),
        (lambda: file.write_bytes(header("(-1, 3, 4)")), r"has the shape \(-1, 3, 4\); expected sides of 1 or more"),
        (lambda: file.write_bytes(header("(" * 3000)), "has a header that cannot be read"),
        (lambda: file.write_bytes(header("open('x')")), "has a header that cannot be read"),
        (lambda: file.write_bytes(header("(1, 2, 3)" + " " * 5000)), "is not an npy file"),
    ]
    for write, said in cases:
        write()
        with pytest.raises(ImageError, match=said) as caught:
            read_frame(file, 1)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "sprung").exists()
    with pytest.raises(ImageError, match="has 2 frames, and frame 5 was asked for"):
        read_frame(saved(file, np.zeros((2, 3, 4), bool)), 5)
    file.write_bytes(header(f"({MAX_LABELS + 1},)"))
    with pytest.raises(ImageError, match="says it has 10,000,001 labels, more than the limit"):
        read_labels(file)
    with pytest.raises(ImageError, match=r"has the shape \(2, 3, 4\); expected \(frames,\)"):
        read_labels(saved(file, np.zeros((2, 3, 4), bool)))


def zipped(file: Path) -> bytes:
    np.savez(file, np.zeros(3))
    return file.read_bytes()


def header(shape: str) -> bytes:
    """An npy file of bytes that claims a shape and holds none."""
    words = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}"
    words += " " * (-(len(words) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + len(words).to_bytes(2, "little") + words.encode()


def test_each_frame_of_an_array_file_is_the_one_asked_for(tmp_path: Path) -> None:
    values = np.arange(60, dtype=np.int16).reshape(5, 3, 4)
    file = saved(tmp_path / "a.npy", values)
    for frame in range(5):
        assert np.array_equal(read_frame(file, frame), values[frame])
    assert read_labels(saved(file, np.array([[0, 2, 1]]))).tolist() == [False, True, True]


def test_a_mask_with_numbers_of_classes_counts_all_of_them(tmp_path: Path) -> None:
    Image.new("L", (4, 1)).save(tmp_path / "image.png")
    Image.fromarray(np.array([[0, 1, 3, 7]], np.uint8)).save(tmp_path / "mask.png")
    assert Masks((tmp_path / "mask.png",)).read(tmp_path / "image.png", None).tolist() == [[False, True, True, True]]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=5,
)
PLACES = [
    *("images", "annotations", "categories", "images.2", "annotations.0", "categories.0", "images.2.file_name"),
    *("images.2.id", "images.2.height", "annotations.0.bbox", "annotations.0.bbox.1", "annotations.0.image_id"),
]


few = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@contextmanager
def in_one_line() -> Iterator[None]:
    """Within it nothing is wrong, or what is wrong is said in one line."""
    said = ""
    try:
        yield
    except BlemishError as error:
        said = str(error)
    assert "\n" not in said


@few
@given(place=st.sampled_from(PLACES), value=VALUES)
def test_whatever_stands_in_a_json_file_it_is_read_or_refused(place: str, value: Any, own: dict[str, Path]) -> None:
    file = own["coco"] / "annotations/sea.json"
    before = file.read_bytes()
    entry(place, value)(own["coco"])
    with in_one_line():
        for sample in read_source(f"coco:{own['coco']}").test:
            if sample.path.is_file():
                read_truth(sample, GEOMETRY)
    file.write_bytes(before)


@few
@given(content=st.text("0123456789.- e+naif\n\t\0é", max_size=30) | st.binary(max_size=30))
def test_whatever_stands_in_a_text_of_labels_it_is_read_or_refused(content: str | bytes, own: dict[str, Path]) -> None:
    label(content)(own["yolo"])
    with in_one_line():
        for sample in read_source(own["yolo"]).test:
            read_truth(sample, GEOMETRY)


@few
@given(at=st.integers(0, 130), byte=st.integers(0, 255), end=st.integers(0, 200))
def test_whatever_stands_in_an_array_file_it_is_read_or_refused(at: int, byte: int, end: int, tmp_path: Path) -> None:
    content = bytearray(saved(tmp_path / "a.npy", np.ones((2, 5, 6), np.int8)).read_bytes())
    content[at] = byte
    (tmp_path / "a.npy").write_bytes(content[:end])
    with in_one_line():
        assert read_frame(tmp_path / "a.npy", 1).ndim == 2


@given(
    corner=st.tuples(st.floats(0, 0.99), st.floats(0, 0.99)),
    sides=st.tuples(st.floats(1e-6, 1), st.floats(1e-6, 1)),
    shape=st.tuples(st.integers(32, 90), st.integers(32, 90)),
)
def test_a_box_is_as_large_on_the_map_as_on_its_image_and_never_vanishes(
    corner: tuple[float, float], sides: tuple[float, float], shape: tuple[int, int]
) -> None:
    bottom, right = min(corner[0] + sides[0], 1.0), min(corner[1] + sides[1], 1.0)
    (box,) = TrueBoxes(Path("a.txt"), ((*corner, bottom, right),)).placed(shape, Geometry(*shape))
    assert 0 <= box.top < box.bottom <= shape[0]
    assert 0 <= box.left < box.right <= shape[1]
    assert box.bottom - box.top == pytest.approx((bottom - corner[0]) * shape[0], abs=1.001)
    assert box.right - box.left == pytest.approx((right - corner[1]) * shape[1], abs=1.001)
