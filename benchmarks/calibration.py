"""What is promised and what comes true: false alarms and detections over random splits, cross-fitted and held out.

    python benchmarks/calibration.py [--data DIR] [--splits 50] [--fit 150] [--only NAME]

The good images of a set, of its training and test part, are divided at random, again and again: `--fit` of them fit a
detector and calibrate it, the others are new good images. The backbone runs once for each image, at 128×128 pixels, so
that all splits take half an hour. Prints for each stated
rate the mean share of false alarms with its standard error, and of anomalous images detected, beside what a threshold
could detect that is chosen by the new good images themselves. Appends the table to benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from blemish.calibration import Calibration, promised_rate
from blemish.datasets import Dataset, Sample, read_source
from blemish.detectors import DETECTORS, make_detector
from blemish.detectors.scoring import Scoring
from blemish.engines import RunsOn
from blemish.engines.extractor import make_extractor
from blemish.engines.stream import tensors
from blemish.fitting.calibrate import cross_fit, hold_out
from blemish.fitting.kept import Kept
from blemish.fitting.learn import learn
from blemish.fitting.passes import Passes
from blemish.fitting.split import Calibrating, divide
from blemish.fitting.trained.cross_train import Replay
from blemish.images import Geometry
from results import Table, append, data_folder

SOURCES = {
    "bottle": "{data}/mvtec/bottle",
    "mtd": "mtd:{data}/mtd",
    "elpv mono": "elpv:mono",
    "elpv poly": "elpv:poly",
    "livestock": "{data}/livestock",
}
CLOSED = ("fre", "padim", "gaussian")
RATES = (0.01, 0.05, 0.1)
MOST_GOOD, MOST_ANOMALOUS = 350, 100
GEOMETRY = Geometry(128, 128)
FEATURES_IN_MEMORY = 4 << 30


@dataclass(frozen=True)
class Pool:
    """A set's good and anomalous images, with their features; the good ones come first."""

    dataset: Dataset
    samples: list[Sample]
    good: int
    passes: Passes
    kept: Kept

    def replay(self) -> Replay:
        numbers = {sample.path: index for index, sample in enumerate(self.samples)}
        return Replay(self.passes.engine, GEOMETRY, False, None, kept=self.kept, numbers=numbers)


def read_pool(source: str, detector: str) -> Pool:
    """Images drawn from a source, and their features as the detector takes them."""
    dataset = read_source(source, 0)
    everything = [*dataset.train, *dataset.test]
    rng = np.random.default_rng(0)
    good, anomalous = (
        [own[index] for index in rng.permutation(len(own))[:most]]
        for own, most in (
            ([sample for sample in everything if not sample.is_anomalous], MOST_GOOD),
            ([sample for sample in everything if sample.is_anomalous], MOST_ANOMALOUS),
        )
    )
    extractor = make_extractor(
        "efficientnet_lite0", None, DETECTORS[detector].strides, GEOMETRY, RunsOn("openvino", "CPU")
    )
    passes, kept = Passes(extractor.engine, GEOMETRY, False, None), Kept(FEATURES_IN_MEMORY)
    for chunk in passes.over("features", [*good, *anomalous]):
        kept.keep(chunk)
    return Pool(dataset, [*good, *anomalous], len(good), passes, kept)


def calibrated(pool: Pool, name: str, chosen: Sequence[int], crosses: bool) -> tuple[Calibration, Scoring]:
    """The calibration of a detector fitted on the chosen images, and the module that scores."""
    dataset = replace(pool.dataset, train=[pool.samples[index] for index in chosen])
    images = divide(dataset, 0, Calibrating(), crosses=crosses)
    detector, replay = make_detector(name), pool.replay()
    learned = Kept(FEATURES_IN_MEMORY) if crosses else None
    learn(detector, replay, images, None, learned)
    gathered = (
        hold_out(detector, replay, images) if learned is None else cross_fit(detector, replay, images, learned, 0)
    )
    return gathered.finish(promised_rate(len(gathered), None)), Scoring(detector, GEOMETRY.shape)


def scores(pool: Pool, scoring: Scoring, numbers: Sequence[int]) -> NDArray[np.float64]:
    found = [scoring.arrays(tensors(chunk.arrays))[0] for chunk in pool.kept.part(numbers).chunks()]
    return np.concatenate(found).astype(np.float64)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=data_folder())
    parser.add_argument("--splits", type=int, default=50)
    parser.add_argument("--fit", type=int, default=150)
    parser.add_argument("--only", help="sets or detectors whose name contains this; nothing is then appended")
    given = parser.parse_args()
    head = [
        "data",
        "detector",
        "stated",
        "held out: false alarms",
        "detected",
        "cross-fitted: false alarms",
        "detected",
    ]
    table = Table([*head, "could be detected"], 2)
    gains = []
    for data, source in SOURCES.items():
        for name in CLOSED:
            if given.only and given.only not in f"{data} {name}":
                continue
            pool = read_pool(source.format(data=given.data), name)
            anomalous = list(range(pool.good, len(pool.samples)))
            found: dict[tuple[float, str], list[float]] = defaultdict(list)
            for split in range(given.splits):
                order = np.random.default_rng(split).permutation(pool.good).tolist()
                for crosses in (False, True):
                    calibration, scoring = calibrated(pool, name, order[: given.fit], crosses)
                    good, bad = (scores(pool, scoring, own) for own in (order[given.fit :], anomalous))
                    for rate in RATES:
                        if rate * (len(calibration.scores) + 1) < 1:
                            continue
                        threshold = replace(calibration, rate=rate).threshold
                        method = "cross" if crosses else "hold-out"
                        found[rate, f"{method} false"].append(float((good > threshold).mean()))
                        found[rate, f"{method} detected"].append(float((bad > threshold).mean()))
                        if crosses:
                            best = np.quantile(good, 1 - rate, method="higher")
                            found[rate, "best"].append(float((bad > best).mean()))
            for rate in RATES:
                cells = []
                for kind in ("hold-out false", "hold-out detected", "cross false", "cross detected", "best"):
                    shares = 100 * np.asarray(found[rate, kind])
                    if not len(shares):
                        cells.append("–")  # so few scores cannot promise this rate
                        continue
                    error = f" ± {shares.std(ddof=1) / len(shares) ** 0.5:.2f}" if "false" in kind else ""
                    cells.append(f"{shares.mean():.2f}{error}")
                table.row(data, name, f"{100 * rate:g}", *cells)
            gains.append(np.mean(found[0.05, "cross detected"]) - np.mean(found[0.05, "hold-out detected"]))
    told = f"Mean gain in detection at a stated 5 %: {100 * np.mean(gains):.1f} points."
    print(told)
    if not given.only:
        append("Calibration", f"python benchmarks/calibration.py --splits {given.splits}", [*table.lines, "", told])
    return 0


if __name__ == "__main__":
    sys.exit(main())
