from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blemish.datasets import read_source
from blemish.errors import SourceError
from conftest import part, write_parts, write_tree


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
    assert read_source(f"tree:{tree}") == read_source(str(tree))


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
