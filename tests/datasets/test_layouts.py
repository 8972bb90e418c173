"""Published data sets, as tiny trees with their names."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import made_up
import numpy as np
import pytest
from PIL import Image

from blemish.datasets import OBJECTS, TEXTURES, find_categories, read_source, read_truth, true_boxes
from blemish.datasets.check import check_source
from blemish.errors import SettingError, SourceError
from blemish.images import Geometry
from command import inside
from conftest import unprivileged

LAYOUTS: dict[str, tuple[int, dict[str, int], bool]] = {
    "mvtec": (3, {"good": 2, "hole": 1}, False),
    "mpdd": (3, {"good": 2, "hole": 1}, False),
    "btad": (3, {"good": 2, "ko": 1}, True),
    "mvtec_ad2": (3, {"good": 2, "bad": 1}, True),
    "mvtec_loco": (3, {"good": 2, "logical_anomalies": 1, "structural_anomalies": 1}, True),
    "visa": (3, {"good": 2, "anomaly": 1}, True),
    "ksdd": (4, {"good": 1, "defect": 1}, True),
    "ksdd2": (3, {"good": 3, "defect": 1}, True),
    "dagm": (3, {"good": 3, "defect": 1}, True),
    "stc": (5, {"good": 4, "unusual": 2}, True),
    "coco": (4, {"good": 1, "dolphin": 1}, False),
    "yolo": (4, {"good": 1, "dolphin": 1}, True),
}
"""Images that train, those that test by class, and whether the layout is recognised."""


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What each layout's source names; not to be changed."""
    return {name: getattr(made_up, name)(tmp_path_factory.mktemp(name) / "root") for name in LAYOUTS}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_published_data_set_has_its_split_its_classes_and_its_masks(layout: str, roots: dict[str, Path]) -> None:
    train, kinds, is_recognised = LAYOUTS[layout]
    dataset = read_source(f"{layout}:{roots[layout]}")
    assert len(dataset.train) == train
    assert not any(sample.is_anomalous for sample in dataset.train)
    assert Counter(sample.kind for sample in dataset.test) == kinds
    assert not {sample.path for sample in dataset.train} & {sample.path for sample in dataset.test}
    assert dataset.has_masks
    for sample in dataset.train + dataset.test:
        assert sample.path.is_file()
        assert np.array_equal(read_truth(sample, None), made_up.marked() * sample.is_anomalous), sample.path
    if is_recognised:
        recognised = read_source(roots[layout])
        assert (recognised.train, recognised.test) == (dataset.train, dataset.test)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nothing_is_wrong_with_such_a_data_set_but_how_few_images_it_has(layout: str, roots: dict[str, Path]) -> None:
    source = f"{layout}:{roots[layout]}"
    found = check_source(source)
    assert found.shapes is not None
    assert [(finding.where, finding.stops_fit) for finding in found.findings] == [(source, False)]
    assert "good images allow a false-alarm rate" in found.findings[0].what


def test_the_seed_splits_what_has_no_split_of_its_own(roots: dict[str, Path]) -> None:
    for layout in LAYOUTS:
        splits = {tuple(read_source(f"{layout}:{roots[layout]}", seed).train) for seed in range(6)}
        assert (len(splits) > 1) == (layout in {"ksdd", "coco", "yolo"}), layout


def test_the_categories_below_a_root_are_found_in_the_order_of_their_numbers(roots: dict[str, Path]) -> None:
    dagm = roots["dagm"].parent
    assert list(find_categories("dagm", dagm)) == ["Class1", "Class2", "Class10"]
    expected = {"mvtec": ["bottle", "carpet"], "visa": ["candle", "pcb1"], "btad": ["01"], "mvtec_ad2": ["can"]}
    for layout, names in expected.items():
        found = find_categories(layout, roots[layout].parent)
        assert list(found) == names
        for name, source in found.items():
            assert source == f"{layout}:{roots[layout].parent / name}"
            assert read_source(source).train
    scenes = find_categories("stc", roots["stc"])
    assert {scene: len(read_source(source).train) for scene, source in scenes.items()} == {"01": 3, "02": 2}
    with pytest.raises(SettingError, match="layout 'mtd' has no categories; give one of mvtec,"):
        find_categories("mtd", dagm)
    with pytest.raises(SourceError, match="no category of visa: in this folder; expected <category>/Data/Images"):
        find_categories("visa", dagm)


def test_the_groups_of_mvtec_ad_are_its_fifteen_categories() -> None:
    assert (len(TEXTURES), len(OBJECTS), len({*TEXTURES, *OBJECTS})) == (5, 10, 15)


def test_a_root_without_a_category_is_refused_with_the_names_of_all(
    roots: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    root = roots["mvtec"].parent
    done = inside(capsys, "fit", f"mvtec:{root}", "-o", root / "m.blemish")
    assert done.returncode == 1
    assert f"{root}: holds the categories bottle, carpet; give one, mvtec:{root / 'bottle'}" in done.stderr
    with pytest.raises(SourceError, match="bottel: no such folder; .* has bottle, carpet"):
        read_source(f"mvtec:{root / 'bottel'}")
    with pytest.raises(SourceError, match="holds the trees bottle, carpet, with defects among them; give one"):
        read_source(root)
    assert len(read_source(f"folder:{root}").train) == 14


@pytest.mark.parametrize("layout", ["visa", "btad", "mvtec_ad2", "mvtec_loco"])
def test_the_folder_above_data_sets_is_not_taken_for_good_images(layout: str, roots: dict[str, Path]) -> None:
    root = roots[layout].parent
    with pytest.raises(
        SourceError, match=f"holds the trees .*{roots[layout].name}.*, with defects among them; give one"
    ):
        read_source(root)
    assert read_source(f"folder:{root}").train


def test_images_with_boxes_beside_them_are_not_taken_for_good_ones(roots: dict[str, Path]) -> None:
    with pytest.raises(SourceError, match=r"has boxes in annotations.sea\.json; give coco:"):
        read_source(roots["coco"])
    assert len(read_source(f"folder:{roots['coco']}").train) == 6


def test_a_scene_of_campus_frames_is_named_after_the_path(roots: dict[str, Path]) -> None:
    dataset = read_source(f"stc:{roots['stc']}:02")
    assert (len(dataset.train), len(dataset.test)) == (2, 3)
    assert [sample.path.name for sample in dataset.test] == ["998.jpg", "999.jpg", "1000.jpg"]
    with pytest.raises(SourceError, match="has no scene '7'; it has 01, 02"):
        read_source(f"stc:{roots['stc']}:7")


def test_frames_without_pixel_masks_have_labels_alone(tmp_path: Path) -> None:
    root = made_up.stc(tmp_path / "stc")
    (root / "testing/test_pixel_mask").rename(root / "elsewhere")
    dataset = read_source(root)
    assert not dataset.has_masks
    assert [sample.mask for sample in dataset.test if sample.is_anomalous] == [None, None]


def write_split(root: Path, write: Callable[[Path, str], None]) -> None:
    for part, first in (("train", 0), ("val", 3)):
        for number in range(3):
            made_up.image(root / "images" / part / f"{first + number}.jpg")
        write(root, part)


def test_boxes_with_a_split_of_their_own_keep_it(tmp_path: Path) -> None:
    def as_json(root: Path, part: str) -> None:
        names = [f"{part}/{number}.jpg" for number in (range(3) if part == "train" else range(3, 6))]
        (root / f"instances_{part}.json").write_text(json.dumps(made_up.coco_content(names, [0])))

    def as_texts(root: Path, part: str) -> None:
        (root / "labels" / part).mkdir(parents=True)
        (root / "labels" / part / f"{0 if part == 'train' else 3}.txt").write_text("0 0.5 0.5 0.1 0.1\n")

    for layout, write in (("coco", as_json), ("yolo", as_texts)):
        write_split(tmp_path / layout, write)
        dataset = read_source(f"{layout}:{tmp_path / layout}")
        assert [sample.path.name for sample in dataset.train] == ["1.jpg", "2.jpg"], "the others have boxes"
        assert [(sample.path.name, sample.is_anomalous) for sample in dataset.test] == [
            ("3.jpg", True),
            ("4.jpg", False),
            ("5.jpg", False),
        ]


def test_labels_lie_beside_their_images_or_in_a_part_of_the_split(tmp_path: Path) -> None:
    """As Semmacape has them, and as Roboflow writes them."""
    beside, parted = tmp_path / "beside", tmp_path / "parted"
    made_up.several(beside / "416_empty", 5, ".jpg")
    made_up.several(beside / "416_non_empty", 2, ".jpg")
    for number in range(2):
        (beside / f"416_non_empty/00{number}.txt").write_text("3 0.5 0.5 0.1 0.1 \n")
        (beside / f"416_non_empty/00{number}_with_name_label.txt").write_text("Goeland_Vol 0.5 0.5 0.1 0.1 \n")
    for part in ("train", "valid", "test"):
        made_up.several(parted / part / "images", 3, ".jpg")
        (parted / part / "labels").mkdir()
        (parted / part / "labels/001.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    assert Counter(sample.kind for sample in read_source(f"yolo:{beside}").test) == {"good": 1, "class 3": 2}
    dataset = read_source(f"yolo:{parted}")
    assert [sample.path.name for sample in dataset.train] == ["000.jpg", "002.jpg"]
    assert {sample.path.parent.parent.name for sample in dataset.test} == {"test"}
    assert [sample.is_anomalous for sample in dataset.test] == [False, True, False]


def test_an_image_with_boxes_of_several_classes_has_a_class_of_its_own(tmp_path: Path) -> None:
    root = made_up.yolo(tmp_path / "yolo")
    (root / "labels/classes.txt").unlink()
    (root / "labels/flight/2.txt").write_text("0 0.5 0.5 0.1 0.1\n3 0.5 0.5 0.1 0.1\n")
    (root / "labels/flight/3.txt").write_text("3 0.5 0.5 0.1 0.1\n")
    assert {sample.kind for sample in read_source(root).test} == {"good", "several classes", "class 3"}


def test_true_boxes_are_those_of_the_data_set_though_they_touch(tmp_path: Path) -> None:
    root = made_up.yolo(tmp_path / "yolo")
    (root / "labels/flight/2.txt").write_text("1 0.25 0.25 0.5 0.5\n1 0.75 0.25 0.5 0.5\n1 0.999 0.999 0.0005 0.0005\n")
    (sample,) = [sample for sample in read_source(root).test if sample.is_anomalous]
    for geometry in (Geometry(32, 32), Geometry(64, 64, tile=64, overlap=16), Geometry(64, 64, crop=48)):
        truth = read_truth(sample, geometry)
        boxes = true_boxes(sample, truth, geometry)
        assert len(boxes) == (2 if geometry.crop else 3), "a crop cuts the corner off"
        drawn = np.zeros_like(truth)
        for box in boxes:
            drawn[box.top : box.bottom, box.left : box.right] = True
        assert np.array_equal(drawn, truth)
    found = true_boxes(sample, np.zeros((32, 32), bool), Geometry(32, 32))
    corners = [(box.top, box.left, box.bottom, box.right) for box in found]
    assert corners == [(0, 0, 16, 16), (0, 16, 16, 32), (31, 31, 32, 32)]


def test_true_boxes_of_masks_are_drawn_around_their_parts(roots: dict[str, Path]) -> None:
    (sample,) = [sample for sample in read_source(roots["btad"]).test if sample.is_anomalous]
    geometry = Geometry(64, 80)
    (box,) = true_boxes(sample, read_truth(sample, geometry), geometry)
    assert (box.top, box.left, box.bottom, box.right) == made_up.DEFECT


def test_boxes_that_leave_their_image_are_cut_at_its_border(tmp_path: Path) -> None:
    root = made_up.coco(tmp_path / "coco")
    file = root / "annotations/sea.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["bbox"] = [-10, 60.2, 20, 50]
    file.write_text(json.dumps(content))
    (sample,) = [sample for sample in read_source(f"coco:{root}").test if sample.is_anomalous]
    assert np.argwhere(read_truth(sample, None)).min(0).tolist() == [60, 0]
    assert np.argwhere(read_truth(sample, None)).max(0).tolist() == [63, 9]


def test_boxes_for_images_of_another_size_are_found_by_check(tmp_path: Path) -> None:
    root = made_up.coco(tmp_path / "coco")
    Image.new("L", (40, 40)).save(root / "images/2.jpg")
    (finding,) = [one for one in check_source(f"coco:{root}").findings if "boxes" in one.what]
    assert finding.where.endswith("sea.json")
    assert finding.what == "has boxes for 64x80 and 2.jpg is 40x40"


@pytest.mark.parametrize(
    ("layout", "folder"),
    [
        ("yolo", "labels/flight"),
        ("coco", "annotations"),
        ("stc", "training/frames/01_001"),
        ("dagm", "Train/Label"),
        ("mvtec_loco", "ground_truth/logical_anomalies/000"),
        ("ksdd2", "train"),
    ],
)
def test_labels_that_may_not_be_read_never_make_an_image_good(open_path: Path, layout: str, folder: str) -> None:
    root = getattr(made_up, layout)(open_path / "root")
    assert read_source(f"{layout}:{root}").test
    with unprivileged(root / folder), pytest.raises(SourceError, match=r"may not be read; check its permissions"):
        read_source(f"{layout}:{root}")
