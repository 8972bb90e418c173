"""Drift: does the stated bound hold, and after how many images is a changed line noticed?

    python benchmarks/drift.py [--data DIR] [--splits 10] [--orders 200]

First, scores from a normal distribution: the share of streams of 5,000 images, all alike, that ever reach a level, beside
the same bets on p-values taken for independent and uniform. Then real scores: again and again 400 of the good magnetic
tiles fit a model at 96×96 pixels, and it scores 300 others, as they are and changed. These scores are put in random
orders: all alike; changed from the first image on; and changed after 100 images. Appends the tables to
benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

import blemish
from blemish.calibration.drift import evidence
from blemish.datasets import read_source
from results import Table, append, data_folder

DETECTORS = ("fre", "padim", "gaussian")
LEVELS = (5.0, 20.0, 100.0)
LEVEL = 100.0
FIT, NEW, BEFORE = 400, 300, 100
SIZE = 96
STREAM, RUNS = 5000, 2000
KNOWN = 10**8
"""So many scores that calibrate are as good as knowing their distribution."""


def brighter(image: Image.Image) -> Image.Image:
    return image.point([min(255, round(1.05 * grey)) for grey in range(256)] * len(image.getbands()))


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


def simulated(count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The largest evidence of each of many streams that are all alike: ranked, and as if p-values were uniform."""
    rng = np.random.default_rng(count)
    found = []
    for _ in range(RUNS):
        known = np.sort(rng.normal(size=count))
        p_values = (1 + count - np.searchsorted(known, rng.normal(size=STREAM))) / (count + 1)
        middles = np.round((p_values - 0.5 / (count + 1)) * (KNOWN + 1)) / (KNOWN + 1)
        found.append([evidence(p_values, count, LEVEL).log10.max(), evidence(middles, KNOWN, LEVEL).log10.max()])
    ranked, uniform = np.array(found).T
    return ranked, uniform


def p_values(model: blemish.Model, paths: Sequence[Path], change: Callable[[Image.Image], Image.Image]) -> NDArray:
    """Of the images, changed."""
    images = [np.asarray(change(Image.open(path).convert("RGB"))) for path in paths]
    return np.array([prediction.p_value for prediction in model.predict(images)])


def shares(largest: NDArray[np.float64]) -> list[str]:
    return [f"{100 * (largest >= np.log10(level)).mean():.2f} %" for level in LEVELS]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=data_folder())
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--orders", type=int, default=200)
    given = parser.parse_args()
    head = [f"ever reach {level:g}, at most {100 / level:g} %" for level in LEVELS]
    bound = Table(["scores", "p-values", "calibrate", "streams", "images in each", *head], 2)
    for count in (20, 100, 400):
        for kind, largest in zip(("ranked", "taken for uniform"), simulated(count), strict=True):
            bound.row("normal", kind, str(count), str(RUNS), str(STREAM), *shares(largest))
    whole = read_source(f"mtd:{given.data}/mtd", 0)
    good = [sample for sample in [*whole.train, *whole.test] if not sample.is_anomalous]
    found: dict[tuple[str, str], list[NDArray[np.float64]]] = defaultdict(list)
    counts = {}
    for name in DETECTORS:
        for split in range(given.splits):
            order = np.random.default_rng(split).permutation(len(good)).tolist()
            train = [good[index] for index in order[:FIT]]
            model = blemish.fit(replace(whole, train=train, test=[]), detector=name, size=SIZE)
            counts[name] = len(model.calibration.scores)
            paths = [good[index].path for index in order[FIT : FIT + NEW]]
            for change, apply in CHANGES.items():
                found[name, change].append(p_values(model, paths, apply))
        largest = []
        for split, new in enumerate(found[name, "none"]):
            rng = np.random.default_rng(split)
            for _ in range(given.orders):
                largest.append(evidence(rng.permutation(new), counts[name], LEVEL).log10.max())
        streams = str(len(largest))
        bound.row(f"tiles, {name}", "ranked", str(counts[name]), streams, str(NEW), *shares(np.array(largest)))
    noticed = Table(
        [
            "detector",
            "change",
            "mean p-value",
            "from the first on: noticed",
            "after images, median",
            f"after {BEFORE}: noticed",
        ]
        + ["after images, median"],
        2,
    )
    for name in DETECTORS:
        for change in CHANGES:
            cells = []
            for before in (0, BEFORE):
                delays = []
                for split, (alike, new) in enumerate(zip(found[name, "none"], found[name, change], strict=True)):
                    rng = np.random.default_rng(split)
                    for _ in range(given.orders):
                        order = rng.permutation(NEW)
                        stream = np.concatenate([alike[order[:before]], new[order[before:]]])
                        alarm = evidence(stream, counts[name], LEVEL).alarm
                        delays.append(np.inf if alarm is None else alarm + 1 - before)
                seen = np.array(delays)
                median = np.median(seen)  # of all streams: infinite if less than half are noticed
                cells += [f"{100 * np.isfinite(seen).mean():.1f} %", f"{median:.0f}" if np.isfinite(median) else "–"]
            noticed.row(name, change, f"{np.mean(found[name, change]):.3f}", *cells)
    command = f"python benchmarks/drift.py --splits {given.splits} --orders {given.orders}"
    append("Drift", command, [*bound.lines, "", *noticed.lines])
    return 0


if __name__ == "__main__":
    sys.exit(main())
