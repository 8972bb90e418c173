"""Bad images among the good ones to fit: what they cost, whether they are found, and what leaving them out gives.

    python benchmarks/contamination.py [--data DIR]

Half of the defects of the test part are mixed into the training images, 0 to 20 % of these; the others are tested on.
Prints image AUROC and the share detected at a stated 5 %, with and without `--trim`, and which share of planted defects
and of good images is left out. On sets without planted defects it prints what is left out of them. Appends both tables
to benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace

import numpy as np

import blemish
from blemish.datasets import Dataset, Sample, read_source
from results import Table, append, data_folder

PLANTED = {"bottle": "{data}/mvtec/bottle", "mtd": "mtd:{data}/mtd"}
CLEAN = {
    **PLANTED,
    "hazelnut_reduced": "{data}/mvtec/hazelnut_reduced",
    "elpv mono": "elpv:mono",
    "elpv poly": "elpv:poly",
    "livestock": "{data}/livestock",
}
SHARES = (0.0, 0.02, 0.05, 0.1, 0.2)
DETECTORS = ("fre", "padim")
MOST = 600
RATE = 0.05


def some(samples: list[Sample], count: int, seed: int = 0) -> list[Sample]:
    """At most `count` samples, drawn at random."""
    order = np.random.default_rng(seed).permutation(len(samples))[:count]
    return [samples[index] for index in sorted(order.tolist())]


def planted(dataset: Dataset, share: float) -> tuple[Dataset, set[str]]:
    """The data set with defects among its training images, and their names."""
    good = some(dataset.train, MOST)
    anomalous = some([sample for sample in dataset.test if sample.is_anomalous], 10**6)
    to_plant, to_test = anomalous[::2], anomalous[1::2]
    count = round(share * len(good) / (1 - share))
    chosen = some(to_plant, count, 1)
    normal = [sample for sample in dataset.test if not sample.is_anomalous]
    return replace(dataset, train=[*good, *chosen], test=[*normal, *to_test]), {str(own.path) for own in chosen}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=data_folder())
    given = parser.parse_args()
    head = ["data", "detector", "planted", "AUROC", "detected", "trimmed: AUROC", "detected", "planted found"]
    table = Table([*head, "good left out"], 2)
    for data, source in PLANTED.items():
        whole = read_source(source.format(data=given.data), 0)
        for detector in DETECTORS:
            for share in SHARES:
                dataset, names = planted(whole, share)
                cells, found = [], 0
                left_out: tuple[str, ...] = ()
                for trim in (False, True):
                    model = blemish.fit(dataset, detector=detector, false_alarm_rate=RATE, trim=trim)
                    figures = blemish.evaluate(model, dataset)
                    detected = figures.decisions["detection_rate"]
                    cells += [f"{100 * (figures.image['auroc'] or 0):.2f}", f"{100 * detected:.1f} %"]
                    left_out = model.provenance.trimmed
                found = sum(any(name.endswith(own) for name in names) for own in left_out)
                told = f"{found} of {len(names)}" if names else "–"
                table.row(
                    data,
                    detector,
                    f"{100 * len(names) / len(dataset.train):.1f} %",
                    *cells,
                    told,
                    f"{len(left_out) - found} of {len(dataset.train) - len(names)}",
                )
    clean = Table(["data", "detector", "good images", "left out", "share"], 2)
    counts = np.zeros(2, int)
    for data, source in CLEAN.items():
        whole = read_source(source.format(data=given.data), 0)
        dataset = replace(whole, train=some(whole.train, MOST))
        for detector in DETECTORS:
            model = blemish.fit(dataset, detector=detector, trim=True)
            out = len(model.provenance.trimmed)
            counts += [out, len(dataset.train)]
            clean.row(data, detector, str(len(dataset.train)), str(out), f"{100 * out / len(dataset.train):.2f} %")
    told = f"Of {counts[1]} good images {counts[0]} are left out, {100 * counts[0] / counts[1]:.2f} %."
    print(told)
    append("Contamination", "python benchmarks/contamination.py", [*table.lines, "", *clean.lines, "", told])
    return 0


if __name__ == "__main__":
    sys.exit(main())
