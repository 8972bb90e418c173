"""Accuracy of the defaults on real images: EfficientNet-Lite0, size 256, seed 0.

    python benchmarks/accuracy.py [--data DIR] [--only NAME]

Prints a table beside what it should at least be, and appends it to benchmarks/RESULTS.md with date, machine and commit.
Status 1 if a figure is missed.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass

import blemish
from results import Table, append, data_folder, held_against


@dataclass(frozen=True)
class Row:
    """One fit: the data, what is asked of `fit`, and the least that each figure should be, in per cent."""

    data: str
    source: str
    name: str
    options: dict[str, str]
    least: dict[str, float]


ROWS = [
    Row(
        "mtd",
        "mtd:{data}/mtd",
        "fre",
        {"detector": "fre"},
        {"image AUROC": 98.1, "detected at 1 %": 52.0, "detected at 5 %": 88.0},
    ),
    Row("mtd", "mtd:{data}/mtd", "fre-lite0-1l", {"preset": "fre-lite0-1l"}, {"image AUROC": 98.4}),
    Row("mtd", "mtd:{data}/mtd", "padim (Rd100)", {"detector": "padim"}, {"image AUROC": 94.5}),
    Row("mtd", "mtd:{data}/mtd", "gaussian", {"detector": "gaussian"}, {}),
    Row(
        "mvtec/bottle",
        "{data}/mvtec/bottle",
        "fre",
        {"detector": "fre"},
        {"image AUROC": 99.9, "pixel AUROC": 98.0, "AUPRO": 95.0},
    ),
    Row(
        "mvtec/bottle",
        "{data}/mvtec/bottle",
        "padim (Rd100)",
        {"detector": "padim"},
        {"image AUROC": 99.3, "pixel AUROC": 97.8},
    ),
    Row(
        "mvtec/bottle",
        "{data}/mvtec/bottle",
        "gaussian",
        {"detector": "gaussian"},
        {"image AUROC": 99.0, "pixel AUROC": 97.5},
    ),
    Row(
        "mvtec/bottle",
        "{data}/mvtec/bottle",
        "spade",
        {"detector": "spade"},
        {"image AUROC": 97.0, "pixel AUROC": 97.0},
    ),
    Row("elpv mono", "elpv:mono", "fre", {"detector": "fre"}, {"image AUROC": 95.5}),
    Row("elpv mono", "elpv:mono", "padim (Rd100)", {"detector": "padim"}, {}),
    Row("elpv mono", "elpv:mono", "gaussian", {"detector": "gaussian"}, {}),
    Row("elpv poly", "elpv:poly", "fre", {"detector": "fre"}, {}),
    Row("elpv poly", "elpv:poly", "padim (Rd100)", {"detector": "padim"}, {}),
    Row("mvtec/hazelnut_reduced", "{data}/mvtec/hazelnut_reduced", "fre", {"detector": "fre"}, {}),
    Row("mvtec/hazelnut_reduced", "{data}/mvtec/hazelnut_reduced", "padim (Rd100)", {"detector": "padim"}, {}),
    Row("mvtec/hazelnut_reduced", "{data}/mvtec/hazelnut_reduced", "gaussian", {"detector": "gaussian"}, {}),
    Row("livestock", "{data}/livestock", "fre", {"detector": "fre"}, {}),
]
FIGURES = ["image AUROC", "pixel AUROC", "AUPRO", "detected at 1 %", "detected at 5 %"]
RATES = (0.01, 0.05)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=data_folder())
    parser.add_argument("--only", help="rows whose data or name contains this; nothing is then appended")
    arguments = parser.parse_args()
    head = ["data", "detector", *FIGURES, "false alarms at 1 %", "at 5 %", "calibrated on", "fit s", "ms/image"]
    table = Table(head, 2)
    missed = 0
    for row in ROWS:
        if arguments.only and arguments.only not in f"{row.data} {row.name}":
            continue
        source = row.source.format(data=arguments.data)
        start = time.perf_counter()
        model = blemish.fit(source, seed=0, **row.options)  # type: ignore[arg-type]
        seconds = time.perf_counter() - start
        found = blemish.evaluate(model, source)
        at = {rate["rate"]: rate for rate in found.rates}
        alarms, detected = (
            {rate: at[rate][kind] if rate in at else None for rate in RATES}
            for kind in ("false_alarm_rate", "detection_rate")
        )
        values = (found.image["auroc"], found.pixel["auroc"], found.pixel["aupro"], detected[0.01], detected[0.05])
        cells, below = held_against(dict(zip(FIGURES, values, strict=True)), row.least)
        missed += below
        cells += ["–" if alarms[rate] is None else f"{100 * alarms[rate]:.2f}" for rate in RATES]
        calibration = model.calibration
        cells.append(f"{len(calibration.scores)} {'crossed' if calibration.folds else 'held out'}")
        cells += [f"{seconds:.1f}", f"{1000 * found.seconds_per_image:.1f}"]
        table.row(row.data, row.name, *cells)
    if not arguments.only:
        append("Accuracy", "python benchmarks/accuracy.py", table.lines)
    print(f"{missed} figures missed" if missed else "every figure reached")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
