"""The input in the images' proportions beside a square one with as many pixels, on parts that are not square.

    python benchmarks/proportions.py [--data DIR] [--only NAME]

The sets are Magnetic Tile Defects, whose images have all shapes; those of its tiles that are upright, and those that
lie; and strips of bottles and hazelnuts, which are cut here. Each is fitted in the shape that `fit` chooses, in a
square, and in the shape nearest to the median image where that is another. All in one run, without copies, a share held
out. Appends a table to benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from PIL import Image

import blemish
from blemish.datasets import Dataset, Sample, read_source
from blemish.images import input_shape, read_mask
from blemish.images.proportions import nearest_shape, read_proportions
from results import Table, append, data_folder

DETECTORS = ("fre", "padim", "gaussian")
FEWEST = 16
"""Pixels of a defect in a strip, at least; other anomalous images are left out."""


def of_shape(dataset: Dataset, keep: Callable[[float], bool]) -> Dataset:
    """Returns the images whose log(height / width) is to be kept."""

    def kept(samples: list[Sample]) -> list[Sample]:
        return [sample for sample in samples if keep(read_proportions([sample.path])[0])]

    return replace(dataset, train=kept(dataset.train), test=kept(dataset.test))


def strips(dataset: Dataset, share: float, folder: Path) -> Dataset:
    """Returns the middle share of every image's height, from a tree that is written to the folder."""
    for part, samples in (("train", dataset.train), ("test", dataset.test)):
        for number, sample in enumerate(samples):
            with Image.open(sample.path) as image:
                top, bottom = (round(image.height * (1 + side * share) / 2) for side in (-1, 1))
                strip = image.convert("RGB").crop((0, top, image.width, bottom))
            if sample.mask:
                mask = read_mask(sample.mask, sample.path)[top:bottom]
                if mask.sum() < FEWEST:
                    continue
                place = folder / "ground_truth" / sample.kind / f"{number:04}_mask.png"
                place.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask).save(place)
            place = folder / part / sample.kind / f"{number:04}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            strip.save(place)
    return read_source(f"tree:{folder}")


def sets(data: str, folder: Path) -> Iterator[tuple[str, Dataset]]:
    tiles = read_source(f"mtd:{data}/mtd")
    bottles, hazelnuts = (read_source(f"{data}/mvtec/{name}") for name in ("bottle", "hazelnut_reduced"))
    yield "mtd", tiles
    yield "mtd, upright (over 1.15)", of_shape(tiles, lambda proportion: proportion > math.log(1.15))
    yield "mtd, lying (under 1 / 1.15)", of_shape(tiles, lambda proportion: proportion < -math.log(1.15))
    yield "bottle, strips of 0.4", strips(bottles, 0.4, folder / "bottle")
    yield "hazelnut_reduced, strips of 0.5", strips(hazelnuts, 0.5, folder / "hazelnut")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=data_folder())
    parser.add_argument("--only", help="sets whose name contains this; nothing is then appended")
    arguments = parser.parse_args()
    head = ["data", "detector", "input", "image AUROC", "pixel AUROC", "AUPRO", "fit s", "ms/image"]
    table = Table(head, 3)
    with tempfile.TemporaryDirectory() as folder:
        for name, dataset in sets(arguments.data, Path(folder)):
            if arguments.only and arguments.only not in name:
                continue
            proportions = read_proportions([sample.path for sample in dataset.train])
            chosen, near = input_shape(256, proportions), nearest_shape(256, statistics.median(proportions))
            for detector in DETECTORS:
                for shape in dict.fromkeys([(256, 256), near, chosen]):
                    size = f"{shape[0]}x{shape[1]}"
                    start = time.perf_counter()
                    model = blemish.fit(dataset, detector=detector, size=size, calibration="hold-out", copies=0)
                    seconds = time.perf_counter() - start
                    found = blemish.evaluate(model, dataset)
                    figures = (found.image["auroc"], found.pixel["auroc"], found.pixel["aupro"])
                    cells = ["–" if figure is None else f"{100 * figure:.2f}" for figure in figures]
                    speed = [f"{seconds:.1f}", f"{1000 * found.seconds_per_image:.1f}"]
                    table.row(name, detector, size + (", chosen" if shape == chosen else ""), *cells, *speed)
    if not arguments.only:
        append("Proportions", "python benchmarks/proportions.py", table.lines)


if __name__ == "__main__":
    main()
