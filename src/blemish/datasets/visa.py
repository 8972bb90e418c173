"""VisA (Zou et al. 2022): `<category>/Data/Images/{Normal,Anomaly}`, and the split in `split_csv/1cls.csv`."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from blemish.datasets.groups import category_folder
from blemish.datasets.marks import Masks
from blemish.datasets.sample import Dataset, Sample
from blemish.datasets.texts import path_below, read_text
from blemish.errors import SourceError

MAX_BYTES = 64 << 20
"""Bytes of the table, at most; the published one has 1 MB."""

COLUMNS = ("object", "split", "label", "image", "mask")


def read_visa(path: str, seed: int = 0) -> Dataset:
    """Returns the published split for one category: its normal images of `train`, and all of `test`.

    The values of the masks are numbers of defects; all that is not zero is defect.

    Args:
        path: of the category, such as `VisA_20220922/candle`, beside `split_csv`.
        seed: changes nothing.

    Raises:
        SourceError: the folder holds the categories, which are then named; the table is absent or damaged, has no
            training image of the category, or names an anomalous image without its mask.
    """
    folder = category_folder("visa", path).absolute()
    root, category = folder.parent, folder.name
    table = root / "split_csv" / "1cls.csv"
    if not table.is_file():
        raise SourceError(f"{path}: no split of this data set; expected {table}, which comes with the images")
    train, test = [], []
    for place, row in _rows(table):
        if row["object"] != category:
            continue
        image = path_below(root, row["image"], place)
        is_good = row["label"] == "normal"
        if row["split"] == "train" and is_good:
            train.append(Sample(image))
        elif row["split"] == "test":
            test.append(Sample(image) if is_good else Sample(image, "anomaly", _mask(root, row["mask"], place)))
    if not train:
        raise SourceError(f"{table}: has no training image of {category!r}; give a category that it has")
    return Dataset("VisA", path, train, test, has_masks=True)


def _rows(table: Path) -> list[tuple[str, dict[str, str]]]:
    """Returns the rows of the table, each with its place; their split and label are known ones."""
    rows = []
    try:
        reader = csv.DictReader(io.StringIO(read_text(table, MAX_BYTES), newline=""), strict=True)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            found = ",".join(reader.fieldnames or ())[:120]
            raise SourceError(f"{table}: has the columns {found!r}; expected {','.join(COLUMNS)}")
        for row in reader:
            place = f"{table}, line {reader.line_num}"
            if None in row or None in row.values():
                raise SourceError(f"{place}: has another number of values than columns; expected {len(COLUMNS)}")
            if row["split"] not in ("train", "test") or row["label"] not in ("normal", "anomaly"):
                found = f"{row['split']}, {row['label']}"[:120]
                raise SourceError(f"{place}: has {found!r}; expected train or test, and normal or anomaly")
            rows.append((place, row))
    except csv.Error as error:
        raise SourceError(f"{table}: cannot be read as a table ({error}); fetch it again") from None
    return rows


def _mask(root: Path, name: str, place: str) -> Masks:
    mask = path_below(root, name, place)
    if not mask.is_file():
        raise SourceError(f"{place}: an anomalous image has no mask; expected {mask}")
    return Masks((mask,))
