from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from blemish.errors import SettingError
from blemish.evaluation import PerImage, compared
from blemish.metrics import ImageCells, MapCounts
from scenes import scene


def figures(better: float = 0.0, seed: int = 0, **changes: Any) -> PerImage:
    """Figures of 20 good and 20 anomalous images, of which a part is common to all seeds."""
    common, own = np.random.default_rng(9), np.random.default_rng(seed)
    anomalous = np.arange(40) >= 20
    scores = common.standard_normal(40) + 0.3 * own.standard_normal(40) + (1 + 3 * better) * anomalous
    hard = np.where(anomalous, common.uniform(0.2, 0.7, 40), np.nan)
    columns = (hard + 0.02 * own.standard_normal(40) + better, hard**2 + better)
    return replace(PerImage(tuple(f"{index}.png" for index in range(40)), anomalous, scores, *columns), **changes)


def test_a_better_detector_differs_and_an_equal_one_does_not() -> None:
    verdicts = {each.figure: each for each in compared(figures(0.2, 1), figures(0, 2))}
    assert {each.verdict for each in verdicts.values()} == {"differs"}
    own = verdicts["pixel_auroc_per_image"]
    assert own.difference == pytest.approx(0.2, abs=0.02)
    assert own.interval is not None
    assert own.interval.low < 0.2 < own.interval.high < 0.25, "the images' own difficulty is not in it"
    equal = compared(figures(0, 1), figures(0, 3))
    assert {each.figure: each.verdict for each in equal} == {
        "image_auroc": "may be chance",
        "pixel_auroc_per_image": "may be chance",
        "aupimo": "not known",  # the very same values
    }


def test_the_difference_changes_its_sign_with_the_order() -> None:
    forth, back = compared(figures(0.1, 1), figures(0, 2)), compared(figures(0, 2), figures(0.1, 1))
    for one, other in zip(forth, back, strict=True):
        assert one.difference == -other.difference
        assert one.as_dict()["first"] == other.as_dict()["second"]
    json.dumps([each.as_dict() for each in forth], allow_nan=False)


def test_images_are_paired_by_name() -> None:
    one, other = figures(0.1, 1), figures(0, 2)
    order = np.random.default_rng(3).permutation(40)
    columns = (other.anomalous, other.scores, other.pixel_auroc, other.aupimo)
    mixed = PerImage(tuple(other.names[index] for index in order), *(column[order] for column in columns))
    assert compared(one, mixed) == compared(one, other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"names": ("new.png", *(f"{index}.png" for index in range(1, 40)))}, "not the same, for example 0.png"),
        ({"names": ("1.png", *(f"{index}.png" for index in range(1, 40)))}, "not the same, for example 0.png"),
        ({"anomalous": np.arange(40) >= 19}, "19.png is good in one and anomalous in the other"),
    ],
)
def test_other_images_or_labels_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        compared(figures(), figures(**changes))


def test_a_mean_is_compared_over_the_images_for_which_both_have_it() -> None:
    one, other = figures(0.1, 1), figures(0, 2)
    one.pixel_auroc[20], other.pixel_auroc[21] = np.nan, np.nan
    other.aupimo[:] = np.nan
    found = {each.figure: each for each in compared(one, other)}
    assert "aupimo" not in found
    own = found["pixel_auroc_per_image"]
    assert own.first == pytest.approx(one.pixel_auroc[22:].mean())
    assert own.interval is not None
    assert own.interval.images == 18


def test_figures_of_all_pixels_are_compared_where_both_kept_them() -> None:
    maps, masks = scene(normal=8, anomalous=6)
    kept = []
    for shift in (0.0, 0.5):
        cells = ImageCells()
        for index, (values, mask) in enumerate(zip(maps, masks, strict=True)):
            cells.add(MapCounts.count(values + np.float32(shift) * mask, mask), index >= 8)
        kept.append(cells)
    labels = np.arange(14) >= 8
    none = np.full(14, np.nan)
    one, other = (PerImage(tuple("abcdefghijklmn"), labels, none, none, none, cells) for cells in kept)
    worse = {each.figure: each.verdict for each in compared(one, other) if each.figure != "image_auroc"}
    assert worse == {"pixel_auroc": "differs", "aupro": "differs"}
    assert not {"pixel_auroc", "aupro"} & {each.figure for each in compared(one, replace(other, cells=None))}


def test_figures_of_images_come_back_from_their_rows() -> None:
    whole = figures()
    back = PerImage.from_rows(json.loads(json.dumps(whole.rows(), allow_nan=False)))
    assert back.names == whole.names
    for column in ("anomalous", "scores", "pixel_auroc", "aupimo"):
        assert np.array_equal(getattr(back, column), getattr(whole, column), equal_nan=column != "anomalous")
    with pytest.raises(SettingError, match="image 0 has no score"):
        PerImage.from_rows([{"name": "a", "is_anomalous": True}])
