"""Models that grow, against models fitted from scratch on the same images: time, scores, and what few digits cost.

    python benchmarks/growth.py [--data DIR] [--tables added,often,sequences] [--updates 100] [--sequences 1000]

Three tables. (1) 100 images added to a model of 761 good images of MTD, and a new fit of the 861. (2) FRE after
`--updates` updates of 10 images each, and merged of five models, against one fit on all: differences of scores and of
image AUROC on MTD's test part; the images are those of MTD and their mirror images. (3) Random sequences of update,
merge and forget on small features, against a detector that learned what is left.
Prints the tables and appends them to benchmarks/RESULTS.md. About a quarter of an hour on two cores.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

import blemish
from blemish.datasets import Dataset, Sample, read_source
from blemish.model import Model
from results import Table, append, data_folder

DETECTORS = ("padim", "gaussian", "fre")

COPIES = (0, 4)
"""Of each image, in the second table; with 4 of them one fit of all is truncated itself."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=data_folder())
    parser.add_argument("--tables", default="added,often,sequences")
    parser.add_argument("--updates", type=int, default=100)
    parser.add_argument("--sequences", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    dataset = read_source(f"mtd:{arguments.data}/mtd", 0)
    with tempfile.TemporaryDirectory() as scratch:
        tables = {
            "added": lambda: added(dataset, arguments.rounds, Path(scratch)),
            "often": lambda: updated_often(dataset, arguments.updates, Path(scratch)),
            "sequences": lambda: sequences(arguments.sequences),
        }
        lines = [line for name in arguments.tables.split(",") for line in ("", *tables[name]())][1:]
    append("Growth", " ".join(["python benchmarks/growth.py", *sys.argv[1:]]), lines)
    return 0


def scores(model: Model, samples: Sequence[Sample]) -> np.ndarray:
    return np.array([prediction.score for prediction in model.predict([sample.path for sample in samples])])


def furthest(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference of scores, as a share."""
    return float(np.abs(found / expected - 1).max())


def added(dataset: Dataset, rounds: int, scratch: Path) -> list[str]:
    """100 images added to 761, in memory and as a command does it, against a fit of 861."""
    good = [sample for sample in dataset.test if not sample.is_anomalous][:100]
    more, whole = replace(dataset, train=good, test=[]), replace(dataset, train=[*dataset.train, *good])
    judged = [sample for sample in dataset.test if sample.is_anomalous][:200]
    table = Table(
        [
            "detector",
            "fit of 861 s",
            "update s",
            "ratio",
            "load, update, save s",
            "fit, save s",
            "ratio",
            "scores differ",
        ],
        1,
    )
    for detector in DETECTORS:
        times = []
        options: dict[str, Any] = {"detector": detector, "copies": 0}
        first = blemish.fit(dataset, **options)
        first.save(scratch / "first", force=True)
        for _ in range(rounds):
            start = time.perf_counter()
            fitted = blemish.fit(whole, **options)
            at_fit = time.perf_counter()
            fitted.save(scratch / "fitted", force=True)
            at_save = time.perf_counter()
            updated = first.update(more)
            at_update = time.perf_counter()
            Model.load(scratch / "first").update(more).save(scratch / "updated", force=True)
            end = time.perf_counter()
            times.append((at_fit - start, at_update - at_save, end - at_update, at_save - start))
        fit_s, update_s, whole_update_s, whole_fit_s = (median(column) for column in zip(*times, strict=True))
        differ = furthest(scores(updated, judged), scores(fitted, judged))
        table.row(
            detector,
            f"{fit_s:.2f}",
            f"{update_s:.2f}",
            f"{fit_s / update_s:.1f}",
            f"{whole_update_s:.2f}",
            f"{whole_fit_s:.2f}",
            f"{whole_fit_s / whole_update_s:.1f}",
            f"{differ:.1e}",
        )
    return table.lines


def updated_often(dataset: Dataset, updates: int, scratch: Path) -> list[str]:
    """FRE after many small updates, and merged from as many models, against one fit on all images."""
    images = mirrored(dataset, scratch / "images")[: 20 + 10 * updates]
    parts = [images[:20], *(images[start : start + 10] for start in range(20, len(images), 10))]
    labels = np.array([sample.is_anomalous for sample in dataset.test])
    table = Table(
        ["fre", "images", "AUROC of one fit", "grown", "difference, points", "scores differ, mean", "at most", "s"], 1
    )
    for copies in COPIES:
        options: dict[str, Any] = {"detector": "fre", "copies": copies, "calibration": "hold-out"}

        def fit(part: list[Sample], options: dict[str, Any] = options) -> Model:
            return blemish.fit(replace(dataset, train=part), **options)

        expected = scores(fit(images), dataset.test)
        for name in ("updated by 10", "merged of 5"):
            start = time.perf_counter()
            if name == "updated by 10":
                grown = reduce(
                    lambda model, part: model.update([sample.path for sample in part]), parts[1:], fit(parts[0])
                )
            else:
                fifths = [images[number::5] for number in range(5)]
                grown = reduce(Model.merge, [fit(part) for part in fifths])
            seconds = time.perf_counter() - start
            found = scores(grown, dataset.test)
            areas = [100 * area(labels, values) for values in (expected, found)]
            differences = np.abs(found / expected - 1)
            table.row(
                f"{name}, {copies} copies",
                str(len(images)),
                *(f"{value:.2f}" for value in areas),
                f"{areas[1] - areas[0]:+.2f}",
                f"{100 * differences.mean():.2f} %",
                f"{100 * differences.max():.2f} %",
                f"{seconds:.0f}",
            )
    return table.lines


def area(labels: np.ndarray, values: np.ndarray) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(labels, values))


def mirrored(dataset: Dataset, folder: Path) -> list[Sample]:
    """The images to train on and their mirror images, in an order drawn by seed."""
    folder.mkdir()
    found = list(dataset.train)
    for number, sample in enumerate(dataset.train):
        path = folder / f"{number:04d}.png"
        Image.fromarray(np.asarray(Image.open(sample.path))[:, ::-1]).save(path)
        found.append(replace(sample, path=path))
    return [found[index] for index in np.random.default_rng(0).permutation(len(found))]


def sequences(count: int) -> list[str]:
    """Random sequences of changes on small features, and how far scores then differ from those of one fit."""
    import torch

    from blemish.detectors import Detector, make_detector
    from blemish.detectors.scoring import Scoring

    grids = [(3, 4, 4), (4, 2, 2)]
    table = Table(["detector", "sequences", "changes", "scores differ, at most"], 1)

    def drawn(seed: int, images: int = 1) -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)
        return [3 * torch.randn(images, *grid, generator=generator) + 5 for grid in grids]

    for name, settings in {"gaussian": {}, "padim": {"dims": 5}, "spade": {"neighbours": 3}}.items():

        def learned(seeds: list[int], name: str = name, settings: dict[str, Any] = settings) -> Detector:
            made = make_detector(name, settings)
            made.start(grids)
            for seed in seeds:
                made.update(drawn(seed))
            return made

        rng, worst, changes = np.random.default_rng(0), 0.0, 0
        for _ in range(count):
            held = list(range(6))
            made, coming = learned(held), 6
            for act in rng.choice(["update", "merge", "forget"], rng.integers(1, 9)):
                changes += 1
                new = list(range(coming, coming + int(rng.integers(1, 4))))
                coming += len(new)
                if act == "forget":
                    if len(held) <= 4:  # a covariance of five dimensions would be left with too few
                        continue
                    gone = [int(seed) for seed in rng.permutation(held)[: rng.integers(1, len(held) - 3)]]
                    features = [torch.cat(layers) for layers in zip(*map(drawn, gone), strict=True)]
                    made = made.without(torch.tensor([held.index(seed) for seed in gone]), features)
                    held = [seed for seed in held if seed not in gone]
                    continue
                if act == "merge":
                    made = made.merge(learned(new))
                else:
                    for seed in new:
                        made.update(drawn(seed))
                held += new
            found, expected = (Scoring(one, (8, 8)).arrays(drawn(10_000, 3))[0] for one in (made, learned(held)))
            worst = max(worst, furthest(found, expected))
        table.row(name, str(count), str(changes), f"{worst:.1e}")
    return table.lines


if __name__ == "__main__":
    sys.exit(main())
