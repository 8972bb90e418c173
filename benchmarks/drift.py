"""Drift: does the stated bound hold, and after how many images is a changed line noticed?

    python benchmarks/drift.py [--data DIR] [--splits 10] [--orders 100]

First, scores from a normal distribution: the share of streams of 5,000 images, all alike, that ever reach a level,
beside the same bets on p-values that are taken for independent and uniform. Then real scores: again and again 400 of
the good magnetic tiles fit a model at 96×96 pixels. It scores 500 others: 200 that give it a new calibration, and 300
as they are and changed. These 300 are put in random orders: all alike; changed from the first image on; changed after
100 images. Each is done with the model's own calibration, where only scores higher than those that calibrated count,
and with the new one, where lower ones count too. Appends the tables to benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

import blemish
from blemish.calibration.drift import Evidence, evidence, places
from blemish.datasets import read_source
from results import Table, append, data_folder

Scores = NDArray[np.float64]

DETECTORS = ("fre", "padim", "gaussian")
LEVELS = (5.0, 20.0, 100.0)
FIT, CALIBRATE, NEW, BEFORE = 400, 200, 300, 100
SIZE = 96
STREAM, RUNS = 5000, 2000
KNOWN = 10**8
"""So many scores that calibrate are as good as knowing their distribution."""


def brighter(image: Image.Image) -> Image.Image:
    return image.point([min(255, round(1.05 * grey)) for grey in range(256)] * 3)


def shifted(image: Image.Image) -> Image.Image:
    """Moved right by 4 pixels; what comes in at the left repeats the border."""
    pixels = np.asarray(image)
    return Image.fromarray(np.concatenate([pixels[:, :1]] * 4 + [pixels[:, :-4]], 1))


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "none": lambda image: image,
    "5 % brighter": brighter,
    "4 pixels to the right": shifted,
    "blurred, radius 1": lambda image: image.filter(ImageFilter.GaussianBlur(1)),
    "blurred, radius 2": lambda image: image.filter(ImageFilter.GaussianBlur(2)),
}


@dataclass(frozen=True)
class Split:
    """Scores by the model of one split: of its own calibration, of new images that calibrate, and by change."""

    own: Scores
    others: Scores
    new: dict[str, Scores]

    def known(self, calibration: str) -> Scores:
        return self.own if calibration == "own" else self.others


def p_values(known: Scores, scores: Scores) -> Scores:
    at_least = len(known) - np.searchsorted(np.sort(known), scores)
    return np.asarray((1 + at_least) / (len(known) + 1))


def found_in(known: Scores, scores: Scores, *, two_sided: bool, seed: int) -> Evidence:
    where = places(p_values(known, scores), len(known), seed)
    return evidence(where, len(known), LEVELS[-1], two_sided=two_sided)


def simulated(count: int) -> tuple[Scores, Scores]:
    """The largest evidence of each of many streams that are all alike: ranked, and as if p-values were uniform."""
    rng = np.random.default_rng(count)
    found = []
    for run in range(RUNS):
        known, scores = rng.normal(size=count), rng.normal(size=STREAM)
        ranked = found_in(known, scores, two_sided=True, seed=run)
        between_0_and_1 = places(p_values(known, scores), count, run) / (count + 1)
        uniform = evidence(between_0_and_1 * (KNOWN + 1), KNOWN, LEVELS[-1], two_sided=True)
        found.append([ranked.log10.max(), uniform.log10.max()])
    ranked_ones, uniform_ones = np.array(found).T
    return ranked_ones, uniform_ones


def read_split(data: str, detector: str, split: int) -> Split:
    whole = read_source(f"mtd:{data}/mtd", 0)
    good = [sample for sample in [*whole.train, *whole.test] if not sample.is_anomalous]
    order = [good[index] for index in np.random.default_rng(split).permutation(len(good))]
    model = blemish.fit(replace(whole, train=order[:FIT], test=[]), detector=detector, size=SIZE)
    others, new = ([sample.path for sample in part] for part in (order[FIT : FIT + CALIBRATE], order[-NEW:]))
    changed = {name: scores(model, new, change) for name, change in CHANGES.items()}
    return Split(model.calibration.scores, scores(model, others, CHANGES["none"]), changed)


def scores(model: blemish.Model, paths: Sequence[Path], change: Callable[[Image.Image], Image.Image]) -> Scores:
    """Of the images, changed."""
    images = [np.asarray(change(Image.open(path).convert("RGB"))) for path in paths]
    return np.array([prediction.score for prediction in model.predict(images)])


def shares(largest: Scores) -> list[str]:
    return [f"{100 * (largest >= np.log10(level)).mean():.2f} %" for level in LEVELS]


def delays(splits: Sequence[Split], calibration: str, change: str, before: int, orders: int) -> Scores:
    """After how many changed images the alarm comes, for each split and order; infinite if it does not."""
    found = []
    for number, split in enumerate(splits):
        rng = np.random.default_rng(number)
        for seed in range(orders):
            order = rng.permutation(NEW)
            stream = np.concatenate([split.new["none"][order[:before]], split.new[change][order[before:]]])
            alarm = found_in(split.known(calibration), stream, two_sided=calibration != "own", seed=seed).alarm
            found.append(np.inf if alarm is None else alarm + 1 - before)
    return np.array(found)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=data_folder())
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--orders", type=int, default=100)
    given = parser.parse_args()
    head = [f"reach {level:g}, at most {100 / level:g} %" for level in LEVELS]
    bound = Table(["scores", "how", "calibrate", "streams", "images in each", *head], 2)
    for count in (20, 100, 400):
        for how, largest in zip(("ranked", "p-values taken for uniform"), simulated(count), strict=True):
            bound.row("normal", how, str(count), str(RUNS), str(STREAM), *shares(largest))
    found = {name: [read_split(given.data, name, number) for number in range(given.splits)] for name in DETECTORS}
    cases = [(name, calibration) for name in DETECTORS for calibration in ("own", "new")]
    for name, calibration in cases:
        largest = []
        for number, split in enumerate(found[name]):
            rng = np.random.default_rng(number)
            for seed in range(given.orders):
                stream = rng.permutation(split.new["none"])
                known = split.known(calibration)
                largest.append(found_in(known, stream, two_sided=calibration != "own", seed=seed).log10.max())
        sizes = [str(len(known)), str(len(largest)), str(NEW)]
        bound.row(f"tiles, {name}", f"ranked, {calibration} calibration", *sizes, *shares(np.array(largest)))
    columns = ["mean p-value", "from the first on: noticed", "median images", f"after {BEFORE}: noticed"]
    noticed = Table(["detector", "calibration", "change", *columns, "median images"], 3)
    for name, calibration in cases:
        for change in CHANGES:
            cells = []
            for before in (0, BEFORE):
                seen = delays(found[name], calibration, change, before, given.orders)
                median = np.median(seen)  # of all orders, so there is none if less than half are noticed
                cells += [f"{100 * np.isfinite(seen).mean():.1f} %", f"{median:.0f}" if np.isfinite(median) else "–"]
            mean = np.mean([p_values(split.known(calibration), split.new[change]) for split in found[name]])
            noticed.row(name, calibration, change, f"{mean:.3f}", *cells)
    command = f"python benchmarks/drift.py --splits {given.splits} --orders {given.orders}"
    append("Drift", command, [*bound.lines, "", *noticed.lines])
    return 0


if __name__ == "__main__":
    sys.exit(main())
