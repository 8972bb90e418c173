"""Tiny trees with the names of published data sets. Every defect is at the same place, `DEFECT`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

SIDES = 64, 80
DEFECT = 16, 8, 24, 28
"""Top, left, bottom, right."""

RNG = np.random.default_rng(0)


def image(path: Path) -> Path:
    """Noise, different in every file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 255, SIDES, dtype=np.uint8)).save(path)
    return path


def marked() -> np.ndarray:
    top, left, bottom, right = DEFECT
    mask = np.zeros(SIDES, np.uint8)
    mask[top:bottom, left:right] = 1
    return mask


def mask(path: Path, value: int = 255, rows: slice = slice(None)) -> None:
    """A mask of the defect, or of some of its rows."""
    values = np.zeros(SIDES, np.uint8)
    values[rows] = value * marked()[rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def several(folder: Path, count: int, suffix: str = ".png", first: int = 0) -> None:
    for index in range(count):
        image(folder / f"{first + index:03d}{suffix}")


def mvtec(root: Path, *, names: tuple[str, ...] = ("bottle", "carpet")) -> Path:
    for name in names:
        several(root / name / "train/good", 3)
        several(root / name / "test/good", 2)
        several(root / name / "test/hole", 1)
        mask(root / name / "ground_truth/hole/000_mask.png")
    return root / names[0]


def mpdd(root: Path) -> Path:
    return mvtec(root, names=("tubes", "connector"))


def btad(root: Path) -> Path:
    several(root / "01/train/ok", 3, ".bmp")
    several(root / "01/test/ok", 2, ".bmp")
    several(root / "01/test/ko", 1, ".bmp")
    mask(root / "01/ground_truth/ko/000.png")
    return root / "01"


def mvtec_ad2(root: Path) -> Path:
    can = root / "can"
    for part, count in (("train/good", 3), ("validation/good", 1), ("test_public/good", 2), ("test_public/bad", 1)):
        several(can / part, count, "_regular.png")
    several(can / "test_private", 2, "_regular.png")
    mask(can / "test_public/ground_truth/bad/000_regular_mask.png")
    return can


def mvtec_loco(root: Path) -> Path:
    box = root / "breakfast_box"
    for part, count in (("train/good", 3), ("validation/good", 1), ("test/good", 2)):
        several(box / part, count)
    several(box / "test/logical_anomalies", 1)
    several(box / "test/structural_anomalies", 1)
    mask(box / "ground_truth/structural_anomalies/000/000.png", 243)
    mask(box / "ground_truth/logical_anomalies/000/000.png", 255, slice(20))
    mask(box / "ground_truth/logical_anomalies/000/001.png", 254, slice(20, None))
    (box / "defects_config.json").write_text("[]")
    return box


def visa(root: Path) -> Path:
    rows = ["object,split,label,image,mask"]
    for name in ("candle", "pcb1"):
        for number, (split, label) in enumerate([("train", "normal")] * 3 + [("test", "normal")] * 2):
            rows.append(f"{name},{split},{label},{name}/Data/Images/Normal/{number:04d}.JPG,")
        several(root / name / "Data/Images/Normal", 1, ".JPG")
        for number in range(5):
            image(root / name / f"Data/Images/Normal/{number:04d}.JPG")
        image(root / name / "Data/Images/Anomaly/000.JPG")
        mask(root / name / "Data/Masks/Anomaly/000.png", 1)
        values = np.asarray(Image.open(root / name / "Data/Masks/Anomaly/000.png")).copy()
        values[20:] *= 3  # another kind of defect, beside which half of the maximum would lose the first
        Image.fromarray(values).save(root / name / "Data/Masks/Anomaly/000.png")
        rows.append(f"{name},test,anomaly,{name}/Data/Images/Anomaly/000.JPG,{name}/Data/Masks/Anomaly/000.png")
    (root / "split_csv").mkdir()
    (root / "split_csv/1cls.csv").write_text("\n".join(rows) + "\n")
    return root / "candle"


def ksdd(root: Path) -> Path:
    for number in range(6):
        image(root / f"kos0{number + 1}/Part0.jpg")
        mask(root / f"kos0{number + 1}/Part0_label.bmp", 255 if number == 3 else 0)
    return root


def ksdd2(root: Path) -> Path:
    for part, first in (("train", 10000), ("test", 20000)):
        for number in range(4):
            image(root / part / f"{first + number}.png")
            mask(root / part / f"{first + number}_GT.png", 255 if number == 1 else 0)
    return root


def dagm(root: Path) -> Path:
    for name in ("Class1", "Class10", "Class2"):
        for part in ("Train", "Test"):
            for number in range(1, 5):
                image(root / name / part / f"{number:04d}.PNG")
            mask(root / name / part / "Label/0002_label.PNG")
            (root / name / part / "Label/Labels.txt").write_text("1\n1 0 0001.PNG 0 0\n2 1 0002.PNG 0 0002_label.PNG\n")
    return root / "Class1"


def stc(root: Path) -> Path:
    several(root / "training/frames/01_001", 3, ".jpg")
    several(root / "training/frames/02_001", 2, ".jpg")
    for video in ("01_0014", "02_0003"):
        several(root / "testing/frames" / video, 3, ".jpg", 998)  # 998.jpg, 999.jpg, 1000.jpg
        for part in ("test_frame_mask", "test_pixel_mask"):
            (root / "testing" / part).mkdir(parents=True, exist_ok=True)
        np.save(root / f"testing/test_frame_mask/{video}.npy", np.array([0, 0, 1], np.int8))
        np.save(root / f"testing/test_pixel_mask/{video}.npy", np.stack([0 * marked(), 0 * marked(), marked()]))
    return root


def coco_content(names: list[str], boxed: list[int]) -> dict[str, list]:
    """COCO's JSON of images, of which some have a box around the defect."""
    top, left, bottom, right = DEFECT
    box = [left, top, right - left, bottom - top]
    return {
        "images": [
            {"id": index + 7, "file_name": name, "height": SIDES[0], "width": SIDES[1]}
            for index, name in enumerate(names)
        ],
        "annotations": [
            {"id": index, "image_id": number + 7, "category_id": 2, "bbox": box} for index, number in enumerate(boxed)
        ],
        "categories": [{"id": 1, "name": "bird"}, {"id": 2, "name": "dolphin"}],
    }


def coco(root: Path) -> Path:
    names = [image(root / "images" / f"{number}.jpg").name for number in range(6)]
    (root / "annotations").mkdir()
    (root / "annotations/sea.json").write_text(json.dumps(coco_content(names, [2])))
    return root


def yolo(root: Path) -> Path:
    for number in range(6):
        image(root / f"images/flight/{number}.jpg")
    (root / "labels/flight").mkdir(parents=True)
    (root / "labels/flight/0.txt").write_text("")
    top, left, bottom, right = DEFECT
    height, width = SIDES
    numbers = (left + right) / 2 / width, (top + bottom) / 2 / height, (right - left) / width, (bottom - top) / height
    (root / "labels/flight/2.txt").write_text("1 " + " ".join(f"{number:.6f}" for number in numbers) + "\n")
    (root / "labels/classes.txt").write_text("bird\ndolphin\n")
    return root
