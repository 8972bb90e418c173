"""The rungs of quality on every set: how well each detects, and what it takes.

    python benchmarks/quality.py [--data DIR] [--detector NAME] [--only NAME]

Besides whole sets, 200 of their training images are fitted on, since copies matter where images are few. Livestock has
no good test images, so 200 of its training images are kept for good ones. Where `balanced` makes copies, it is fitted
without them too. Times are also given against those of `balanced` on the same set, since the machine may be busy.
Appends the table to benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import blemish
from blemish.datasets import Dataset, Sample, read_source
from blemish.fitting.quality import BALANCED, QUALITIES
from results import Table, append, data_folder

SETS = {
    "mvtec/hazelnut_reduced": "{data}/mvtec/hazelnut_reduced",
    "mvtec/bottle": "{data}/mvtec/bottle",
    "elpv mono": "elpv:mono",
    "elpv poly": "elpv:poly",
    "mtd": "mtd:{data}/mtd",
    "livestock": "{data}/livestock",
}
FEW = 200
"""Training images of the smaller fits, of sets with more than `MANY`."""

MANY = 600

MOST = 600
"""Training images of Livestock, which has thousands."""

KEPT = 200
"""Images of each kind in the test part of Livestock."""

NO_COPIES = f"{BALANCED}, no copies"


@dataclass(frozen=True)
class Found:
    """Figures of one fit: shares, seconds and megabytes; those of detection are `None` where undefined."""

    image: float | None
    pixel: float | None
    aupro: float | None
    fit: float
    each: float
    size: float
    copies: int


def drawn(samples: list[Sample], count: int) -> list[Sample]:
    """At most `count` samples, drawn at random."""
    order = np.random.default_rng(0).permutation(len(samples))[:count]
    return [samples[index] for index in sorted(order.tolist())]


def parts(name: str, source: str) -> list[tuple[str, Dataset]]:
    """The whole set, and the part of it with few images to train."""
    whole = read_source(source, 0)
    if name == "livestock":
        good = drawn(whole.train, KEPT)
        rest = [sample for sample in whole.train if sample not in good]
        whole = replace(whole, train=drawn(rest, MOST), test=[*good, *drawn(whole.test, KEPT)])
    found = [(name, whole)]
    if len(whole.train) > MANY:
        found.append((f"{name}, {FEW} images", replace(whole, train=drawn(whole.train, FEW))))
    return found


def measured(dataset: Dataset, **options: Any) -> Found:
    start = time.perf_counter()
    model = blemish.fit(dataset, **options)
    seconds = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as folder:
        model.save(f"{folder}/m")
        size = sum(file.stat().st_size for file in Path(folder, "m").iterdir()) / 1e6
    found = blemish.evaluate(model, dataset)
    figures = found.image["auroc"], found.pixel["auroc"], found.pixel["aupro"]
    return Found(*figures, seconds, 1000 * found.seconds_per_image, size, model.recipe.copies)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=data_folder())
    parser.add_argument("--detector", default="fre")
    parser.add_argument("--only", help="sets whose name contains this; nothing is then appended")
    given = parser.parse_args()
    head = ["data", "quality", "copies", "image AUROC", "pixel AUROC", "AUPRO", "fit s", "x", "ms/image", "x", "MB"]
    table = Table(head, 2)
    all_found: dict[str, list[Found]] = {}
    for name, source in SETS.items():
        if given.only and given.only not in name:
            continue
        for data, dataset in parts(name, source.format(data=given.data)):
            blemish.fit(replace(dataset, train=dataset.train[:20]), detector=given.detector)  # imports, for all alike
            found = {rung: measured(dataset, detector=given.detector, quality=rung) for rung in QUALITIES}
            if found[BALANCED].copies:
                found[NO_COPIES] = measured(dataset, detector=given.detector, quality=BALANCED, copies=0)
            usual = found[BALANCED]
            for rung, own in found.items():
                detection = [
                    "–" if value is None else f"{100 * value:.2f}" for value in (own.image, own.pixel, own.aupro)
                ]
                times = [
                    f"{own.fit:.1f}",
                    f"{own.fit / usual.fit:.2f}",
                    f"{own.each:.1f}",
                    f"{own.each / usual.each:.2f}",
                ]
                table.row(data, rung, str(own.copies), *detection, *times, f"{own.size:.0f}")
            for rung in (*QUALITIES, NO_COPIES):
                all_found.setdefault(rung, []).append(found.get(rung, usual))
    for rung, rows in all_found.items():
        image = np.mean([row.image for row in rows if row.image is not None])
        ratios = [
            np.exp(
                np.mean(
                    [np.log(getattr(a, key) / getattr(b, key)) for a, b in zip(rows, all_found[BALANCED], strict=True)]
                )
            )
            for key in ("fit", "each")
        ]
        table.row("mean", rung, "", f"{100 * image:.2f}", "", "", "", f"{ratios[0]:.2f}", "", f"{ratios[1]:.2f}", "")
    if not given.only:
        append(f"Quality, {given.detector}", f"python benchmarks/quality.py --detector {given.detector}", table.lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
