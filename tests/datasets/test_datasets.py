from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import blemish
from blemish.datasets import read_source
from blemish.errors import ImageError, SourceError
from blemish.images import Geometry, read_image
from blemish.storage.cards import write_card
from conftest import part, unprivileged, write_parts, write_tree

POSIX = pytest.mark.skipif(os.name == "nt", reason="permissions, links and pipes are POSIX's")


def names(samples: list) -> list[str]:
    return [sample.path.name for sample in samples]


def test_a_plain_folder_is_all_training_recursive_and_without_dot_folders(tmp_path: Path) -> None:
    write_parts(tmp_path / "a", 2)
    write_parts(tmp_path / "b" / "c", 1)
    write_parts(tmp_path / ".hidden", 1)
    (tmp_path / "notes.txt").write_text("not an image")
    Image.fromarray(part(np.random.default_rng(0))).save(tmp_path / "UPPER.PNG")
    dataset = read_source(tmp_path)
    assert len(dataset.train) == 4
    assert dataset.test == []
    assert "plain folder, 4 images" in str(dataset)


def test_a_tree_is_recognised_with_its_classes_and_masks(tree: Path) -> None:
    dataset = read_source(tree)
    assert dataset.layout == "MVTec-style tree"
    assert (len(dataset.train), len(dataset.test), dataset.has_masks) == (24, 10, True)
    for sample in dataset.test:
        assert sample.is_anomalous == (sample.kind == "scratch") == (sample.mask is not None)
    assert "5 good, 5 scratch" in str(dataset)
    assert read_source(f"tree:{tree}").test == read_source(str(tree)).test


def test_masks_with_and_without_the_ending_belong_to_their_image(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "t", 2, 2)
    truth = root / "ground_truth" / "scratch"
    (truth / "000_mask.png").rename(truth / "000.png")
    masks = [sample.mask for sample in read_source(root).test if sample.is_anomalous]
    assert [mask.name for mask in masks if mask] == ["000.png", "001_mask.png"]


def test_a_tree_without_ground_truth_has_labels_and_no_masks(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "t", 2, 2)
    (root / "ground_truth").rename(root / "elsewhere")
    dataset = read_source(root)
    assert not dataset.has_masks
    assert sum(sample.is_anomalous for sample in dataset.test) == 2


def test_a_named_layout_goes_before_the_recognised_one(tree: Path) -> None:
    assert len(read_source(f"folder:{tree}").train) == 24 + 10 + 5


def test_the_same_seed_gives_the_same_split_and_another_gives_another(data: Path) -> None:
    first, again, other = (read_source(data / "mtd", seed) for seed in (0, 0, 1))
    assert names(first.train) == names(again.train) != names(other.train)
    assert not set(names(first.train)) & set(names(first.test))


def test_mtd_has_the_split_of_the_literature(data: Path) -> None:
    dataset = read_source(f"mtd:{data / 'mtd'}")
    assert (len(dataset.train), len(dataset.test)) == (761, 583)
    assert sum(sample.is_anomalous for sample in dataset.test) == 392
    assert all(sample.mask is not None and sample.mask.exists() for sample in dataset.test if sample.is_anomalous)


def test_livestock_has_its_published_split_and_no_mask_among_its_images(data: Path) -> None:
    dataset = read_source(data / "livestock")
    assert dataset.layout == "Livestock"
    assert (len(dataset.train), len(dataset.test)) == (3430, 890)
    assert not any(name.endswith("_gt.png") for name in names(dataset.train + dataset.test))


@pytest.mark.parametrize(
    ("options", "train", "good", "bad"),
    [("elpv:mono", 470, 118, 313), ("elpv:poly", 736, 184, 402), ("elpv", 1206, 302, 715)],
)
def test_elpv_leaves_the_doubtful_out(options: str, train: int, good: int, bad: int) -> None:
    dataset = read_source(options)
    anomalous = sum(sample.is_anomalous for sample in dataset.test)
    assert (len(dataset.train), len(dataset.test) - anomalous, anomalous) == (train, good, bad)
    assert not dataset.has_masks


def test_elpv_tests_the_doubtful_when_asked_and_never_trains_on_them() -> None:
    without, with_doubtful = read_source("elpv:mono"), read_source("elpv:mono,doubtful")
    assert names(without.train) == names(with_doubtful.train)
    assert len(with_doubtful.test) > len(without.test)


def test_bad_sources_are_refused_with_what_was_expected(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("x")
    no_mask = write_tree(tmp_path / "t", 2, 2)
    (no_mask / "ground_truth" / "scratch" / "001_mask.png").unlink()
    cases = {
        str(tmp_path / "missing"): "no such file or folder",
        str(tmp_path / "empty"): "no images",
        str(tmp_path / "text.txt"): "not an image",
        "tree:": "names no folder",
        f"tree:{tmp_path / 'empty'}": "train/good",
        f"mtd:{tmp_path / 'empty'}": "MT_Free",
        f"livestock:{tmp_path / 'empty'}": "Train",
        f"mtd:{tmp_path / 'nowhere'}": "no such folder",
        "elpv:violet": "mono, poly, doubtful",
        str(no_mask): "001_mask.png",
    }
    for source, expected in cases.items():
        with pytest.raises(SourceError) as caught:
            read_source(source)
        assert expected in str(caught.value), source


def test_what_a_source_keeps_of_its_name_leads_to_the_same_images_again(tree: Path) -> None:
    everything = read_source(f"folder:{tree}")
    assert read_source(everything.root) == everything


def said_of(path: Path) -> str:
    with pytest.raises(ImageError) as caught:
        read_image(path, Geometry(32, 32))
    return caught.value.reason


@POSIX
def test_names_of_images_count_whatever_is_behind_them(tmp_path: Path) -> None:
    write_parts(tmp_path, 1)
    (tmp_path / "gone.png").symlink_to("nowhere.png")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "lost").symlink_to("unmounted")
    (tmp_path / "notes.txt").symlink_to("nowhere.txt")
    (tmp_path / ".hidden.png").symlink_to("nowhere.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "device.bmp").symlink_to("/dev/null")
    found = read_source(tmp_path).train
    assert names(found) == ["000.png", "device.bmp", "gone.png", "loop.jpg", "lost", "pipe.png"]
    for sample in found[1:]:
        assert said_of(sample.path)
    for name in ("gone.png", "lost"):
        assert said_of(tmp_path / name) == "is a broken link; fix it, or remove it"


@POSIX
def test_links_to_folders_are_followed_and_each_folder_is_looked_into_once(tmp_path: Path) -> None:
    write_parts(tmp_path / "source" / "b", 2)
    write_parts(tmp_path / "other" / "deep", 1)
    (tmp_path / "source" / "a").symlink_to("b")
    (tmp_path / "source" / "b" / "up").symlink_to("..")
    (tmp_path / "source" / "c").symlink_to(tmp_path / "other")
    (tmp_path / "source" / "d").symlink_to(tmp_path / "other" / "deep")
    found = [str(sample.path.relative_to(tmp_path / "source")) for sample in read_source(tmp_path / "source").train]
    assert found == ["b/000.png", "b/001.png", "c/deep/000.png"]


@POSIX
def test_a_sub_folder_that_may_not_be_listed_is_an_image_that_cannot_be_read(open_path: Path) -> None:
    write_parts(open_path / "a", 1)
    locked = write_parts(open_path / "locked", 1)
    with unprivileged(locked):
        assert names(read_source(open_path).train) == ["000.png", "locked"]
        assert said_of(locked) == "is a folder that may not be read; check its permissions"


@POSIX
@pytest.mark.parametrize(
    ("layout", "folder"),
    [
        ("", "."),
        ("", "test"),
        ("", "test/scratch"),
        ("", "ground_truth"),
        ("", "ground_truth/scratch"),
        ("", "train/good"),
        ("mtd:", "MT_Free/Imgs"),
        ("mtd:", "MT_Crack"),
        ("mtd:", "MT_Crack/Imgs"),
        ("livestock:", "Train"),
        ("livestock:", "Test"),
        ("one_class:", "test/scratch"),
    ],
)
def test_a_folder_that_a_layout_needs_and_that_may_not_be_read_is_refused(
    open_path: Path, layout: str, folder: str
) -> None:
    root = write_tree(open_path / "t", 2, 2)
    for needed in ("MT_Free/Imgs", "MT_Crack/Imgs", "Train", "Test"):
        (root / needed).mkdir(parents=True)
        Image.new("RGB", (64, 64)).save(root / needed / "0.jpg")
        Image.new("L", (64, 64), 255).save(root / needed / ("0_gt.png" if needed == "Test" else "0.png"))
    source = f"{layout}{root}{':good' if layout == 'one_class:' else ''}"
    assert read_source(source).test
    with unprivileged(root / folder), pytest.raises(SourceError, match=r"may not be read; check its permissions"):
        read_source(source)


@POSIX
@pytest.mark.parametrize("name", ["ground_truth", "test", "test/scratch"])
def test_a_folder_of_a_tree_that_is_a_link_to_nowhere_is_refused(tmp_path: Path, name: str) -> None:
    root = write_tree(tmp_path / "t", 2, 2)
    (root / name).rename(tmp_path / "away")
    (root / name).symlink_to("gone")
    with pytest.raises(SourceError, match=f"{name}: is a broken link; fix it"):
        read_source(root)


def test_a_class_of_tiles_without_its_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "MT_Free" / "Imgs").mkdir(parents=True)
    Image.new("L", (64, 64)).save(tmp_path / "MT_Free" / "Imgs" / "0.JPG")
    assert names(read_source(tmp_path).test) == ["0.JPG"]
    (tmp_path / "MT_Crack").mkdir()
    with pytest.raises(SourceError, match="MT_Crack/Imgs: no such folder"):
        read_source(tmp_path)


def test_a_path_that_no_file_can_have_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot be read .*; check the path"):
        read_source(tmp_path / ("x" * 300))


@pytest.mark.parametrize("way", ["train/good is a dangling link", "train/good is gone", "train is gone"])
def test_a_tree_without_its_good_images_is_not_taken_for_a_folder_of_good_ones(tmp_path: Path, way: str) -> None:
    root = write_tree(tmp_path / "t", 2, 2)
    good = root / "train" / "good"
    good.rename(tmp_path / "elsewhere")
    if way == "train/good is a dangling link":
        good.symlink_to(tmp_path / "nowhere")
    if way != "train is gone":
        with pytest.raises(SourceError, match=f"no train/good in this tree.*folder:{root}"):
            read_source(root)
        return
    (root / "train").rmdir()
    dataset = read_source(root)
    assert (dataset.train, len(dataset.test)) == ([], 4), "which can be evaluated"
    with pytest.raises(SourceError, match="has 0 images to fit"):
        blemish.fit(dataset, size=64)


def test_pictures_that_blemish_drew_are_no_images_of_the_folder_around_them(tmp_path: Path) -> None:
    write_parts(tmp_path / "photos", 1)
    own = sorted((tmp_path / "photos").glob("*.png"))
    for kind in ("predictions", "explanations", "tree", "altered", "none"):
        folder = tmp_path / "photos" / kind
        (folder / "maps").mkdir(parents=True)
        shutil.copy(own[0], folder / "maps" / "000.png")
        if kind == "altered":
            (folder / "blemish.json").write_text("{")
        elif kind != "none":
            write_card(folder, kind, {})
    found = {sample.path for sample in read_source(str(tmp_path / "photos")).train}
    kept = {tmp_path / "photos" / kind / "maps" / "000.png" for kind in ("tree", "altered", "none")}
    assert found == {*own, *kept}
    drawn = tmp_path / "photos" / "predictions"
    assert [sample.path for sample in read_source(str(drawn)).train] == [drawn / "maps" / "000.png"], "it was asked for"
