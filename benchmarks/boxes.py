"""How well boxes meet the true ones, by the box rate and by how far a part is shrunk towards its peak.

    python benchmarks/boxes.py [--data DIR] [--only NAME]

All sets with masks: Livestock (`vae-grf`, `fre`, `padim`), Magnetic Tile Defects, bottle and the reduced hazelnut
(`fre`, `padim`), with default settings and seed 0. A cell has the F1 at overlaps of 0.3 and 0.5 and, by the first, the
false boxes an image. The defaults are chosen over all sets. Prints two tables and appends them to
benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

import blemish
from blemish.datasets import read_source, read_truth
from blemish.detectors import VAEGRF
from blemish.maps import Box, boxes, find_boxes, matched
from results import Table, append, data_folder

RATES = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3)
SHARES = (0.0, 0.2, 0.3, 0.4, 0.5, 0.6)
BY_DEFAULT = boxes.SHRUNK
SETS = {
    "livestock, vae-grf": ("livestock:{}/livestock", VAEGRF(beta=0.1, minutes=10)),
    "livestock, fre": ("livestock:{}/livestock", "fre"),
    "livestock, padim": ("livestock:{}/livestock", "padim"),
    "mtd, fre": ("mtd:{}/mtd", "fre"),
    "mtd, padim": ("mtd:{}/mtd", "padim"),
    "bottle, fre": ("{}/mvtec/bottle", "fre"),
    "bottle, padim": ("{}/mvtec/bottle", "padim"),
    "hazelnut, fre": ("{}/mvtec/hazelnut_reduced", "fre"),
    "hazelnut, padim": ("{}/mvtec/hazelnut_reduced", "padim"),
}


@dataclass(frozen=True)
class Judged:
    """A model, and the maps of its test images with their true boxes."""

    model: blemish.Model
    maps: list[NDArray[np.float32]]
    true: list[list[Box]]

    def cell(self, rate: float, share: float) -> str:
        """F1 at both overlaps and false boxes an image; a rate that cannot be had is the lowest possible one."""
        held_out = len(self.model.calibration.scores)
        model = self.model.at(box_rate=max(rate, 1 / (held_out + 1)))
        boxes.SHRUNK = share
        found = [model.boxes(values) for values in self.maps]
        boxes.SHRUNK = BY_DEFAULT
        total = sum(map(len, found)) + sum(map(len, self.true))
        met = [sum(matched(one, true, iou) for one, true in zip(found, self.true, strict=True)) for iou in (0.3, 0.5)]
        false = (sum(map(len, found)) - met[0]) / len(self.maps)
        return f"{200 * met[0] / total:.1f} / {200 * met[1] / total:.1f} ({false:.2f})"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=data_folder())
    parser.add_argument("--only", choices=SETS, help="nothing is then appended")
    arguments = parser.parse_args()
    by_rate = Table(["box rate", *(f"{rate:g}" for rate in RATES)], 1)
    by_share: list[str] = []
    for name, (source, detector) in SETS.items():
        if arguments.only in {None, name}:
            judged = judge(source.format(arguments.data), detector)
            by_rate.row(name, *(judged.cell(rate, BY_DEFAULT) for rate in RATES))
            by_share.append(" | ".join(["| " + name, *(judged.cell(0.1, share) for share in SHARES)]) + " |")
    print()
    shrunk = Table(["share of the peak, at a box rate of 0.1", *(f"{share:g}" for share in SHARES)], 1)
    shrunk.lines += by_share
    print(*by_share, sep="\n")
    if arguments.only is None:
        append("Boxes, F1 at overlaps of 0.3 / 0.5 in per cent (false boxes an image)", "python benchmarks/boxes.py",
               [*by_rate.lines, "", *shrunk.lines])  # fmt: skip
    return 0


def judge(source: str, detector: str | VAEGRF) -> Judged:
    """Fits, and predicts the test part."""
    dataset = read_source(source, 0)
    model = blemish.fit(dataset, detector=detector)
    found = Judged(model, [], [])
    for sample, prediction in zip(dataset.test, model.predict([s.path for s in dataset.test]), strict=True):
        if prediction.map is not None:
            found.maps.append(prediction.map)
            found.true.append(find_boxes(read_truth(sample, model.recipe.geometry), 0.5, 1))
    return found


if __name__ == "__main__":
    sys.exit(main())
