"""The VAE with a random-field prior on aerial photographs: how well its maps find animals, against time of training.

    python benchmarks/livestock.py [--data DIR] [--minutes 10] [--only NAME] [--images N] [--per-image FILE]

256×256, seed 0, all 890 test images: the mean over images of each image's own pixel AUROC, as the paper has it, and the
pooled pixel AUROC, both of the maps as published; and how many photographs with animals are detected at a threshold of
1 % false alarms, by the standardised map, and by the published one (its threshold from some 700 training images). The
maps by gradients, which the paper has of the ordinary VAE and which take seconds an image, are judged on every
thirty-second. With `--per-image` each image's AUROC is written to a file of JSON lines. Both detectors are compared on
the same images: the mean difference, and its 95 % interval by 10,000 bootstrap samples of images. Prints tables and
appends them to benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import blemish
from blemish.datasets import read_source
from blemish.detectors import VAE, VAEGRF
from blemish.detectors.scoring import Scoring
from blemish.detectors.vae.head import GRADIENTS
from blemish.images import Geometry, decode_ahead, read_image, read_mask
from blemish.metrics import PixelTally, auroc, tally
from results import Table, append, data_folder

PUBLISHED = {
    ("vae-grf", "mad"): 0.84,
    ("vae-grf", "mad-sm"): 0.83,
    ("vae-grf", "sm"): 0.76,
    ("vae", "l2"): 0.67,
    ("vae", "gradient"): 0.77,
    ("vae", "gradient-sm"): 0.52,
    ("vae", "projection"): 0.68,
}
SLOW = 32
"""Of the test images, every so manieth for the maps by gradients."""
RESAMPLED = 10_000
"""Bootstrap samples of images."""
GEOMETRY = Geometry()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=data_folder())
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--epochs", type=int, default=VAE.epochs)
    parser.add_argument("--beta", type=float, default=VAE.beta)
    parser.add_argument("--per-image", type=Path, help="a new file for each image's AUROC by detector and map")
    parser.add_argument("--images", type=int, help="of the test part, at equal distances; nothing is then appended")
    parser.add_argument("--only", choices=["vae", "vae-grf"])
    arguments = parser.parse_args()
    if arguments.per_image and arguments.per_image.exists():
        parser.error(f"{arguments.per_image} is there already; give a new file")
    dataset = read_source(f"livestock:{arguments.data}/livestock", 0)
    if arguments.images:
        places = np.linspace(0, len(dataset.test) - 1, arguments.images).round().astype(int)
        dataset = replace(dataset, test=[dataset.test[place] for place in places])
    columns = [
        "detected at a stated 1 % of false alarms",
        "F1 of boxes at IoU 0.3",
        "at IoU 0.5",
        "false boxes an image",
    ]
    decisions = Table(["detector", "score", *columns], 2)
    print()
    table = Table(["detector", "minutes", "map", "mean AUROC of images", "published", "pooled AUROC"], 1)
    areas: dict[tuple[str, str], dict[str, float]] = {}
    for kind in (VAEGRF, VAE):
        if arguments.only and kind.name != arguments.only:
            continue
        start = time.perf_counter()
        detector = kind(beta=arguments.beta, epochs=arguments.epochs, minutes=arguments.minutes)
        model = blemish.fit(dataset, detector=detector)
        minutes = f"{(time.perf_counter() - start) / 60:.1f}"
        evaluation = blemish.evaluate(model, dataset)
        rate = 100 * evaluation.decisions["detection_rate"]
        loose, tight = evaluation.boxes["overlaps"]
        f1 = f"{100 * loose['f1']:.1f} % | {100 * tight['f1']:.1f} % | {loose['false_per_image']:.2f}"
        decisions.lines.append(f"| {kind.name} | mad, standardised | {rate:.1f} % | {f1} |")
        scores = raw_scores(detector, [sample.path for sample in dataset.train])
        limit = np.quantile(scores, 0.99)
        share = (raw_scores(detector, [sample.path for sample in dataset.test]) > limit).mean()
        decisions.lines.append(f"| {kind.name} | mad, as published | {100 * share:.1f} % | |")
        print(*decisions.lines[-2:], sep="\n", flush=True)
        found = judged(detector, dataset, ("mad", "sm", "mad-sm", "l2"))
        if kind is VAE:
            found |= judged(detector, replace(dataset, test=dataset.test[::SLOW]), GRADIENTS)
        for map, (own, pooled) in found.items():
            mean = np.mean(list(own.values()))
            areas[kind.name, map] = own
            if arguments.per_image:
                with arguments.per_image.open("a", encoding="utf-8") as file:
                    for image, area in own.items():
                        row = {"detector": kind.name, "map": map, "seed": detector.seed, "image": image, "auroc": area}
                        file.write(json.dumps(row) + "\n")
            published = PUBLISHED.get((kind.name, map))
            cells = [f"{mean:.3f}", "–" if published is None else f"{published:.2f}", f"{pooled:.3f}"]
            table.row(kind.name, minutes, map, *cells)
    if not arguments.images:
        command = f"python benchmarks/livestock.py --minutes {arguments.minutes:g}"
        append("Animals in aerial photographs", command, [*table.lines, "", *decisions.lines, "", *paired(areas)])
    return 0


def paired(areas: dict[tuple[str, str], dict[str, float]]) -> list[str]:
    """A table of the maps that both detectors have: VAE-GRF less VAE on the same images."""
    print()
    table = Table(["map", "images", "VAE-GRF less VAE, mean", "from", "to", "share of images where it is higher"], 1)
    rng = np.random.default_rng(0)
    for kind, map in areas:
        if kind != VAEGRF.name or (VAE.name, map) not in areas:
            continue
        own, other = areas[kind, map], areas[VAE.name, map]
        less = np.array([own[image] - other[image] for image in own])
        drawn = np.array([less[rng.integers(0, len(less), len(less))].mean() for _ in range(RESAMPLED)])
        figures = (f"{value:+.4f}" for value in (less.mean(), *np.quantile(drawn, [0.025, 0.975])))
        table.row(map, str(len(less)), *figures, f"{100 * (less > 0).mean():.0f} %")
    return table.lines


def raw_scores(detector: VAE, paths: list[Path]) -> NDArray[np.float32]:
    """The largest value of each image's map as the paper has it."""
    detector.standardised = False
    scoring = Scoring(detector, GEOMETRY.shape)
    detector.standardised = True
    found = []
    for image in decode_ahead(partial(read_image, geometry=GEOMETRY), paths[:: max(1, len(paths) // 700)]):
        features = [torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255]
        found.append(scoring.arrays(features)[0][0])
    return np.array(found)


def judged(
    detector: VAE, dataset: blemish.datasets.Dataset, maps: Sequence[str]
) -> dict[str, tuple[dict[str, float], float]]:
    """Of these maps: the pixel AUROC of each image that has animals, by its name, and that of all pixels together."""
    scorings = {}
    detector.standardised = False  # the maps as published
    for map in maps:
        detector.map = map
        detector.interpolation = "nearest"
        scorings[map] = Scoring(detector, GEOMETRY.shape)
    own: dict[str, dict[str, float]] = {map: {} for map in scorings}
    pooled = {map: PixelTally() for map in scorings}
    images = decode_ahead(partial(read_image, geometry=GEOMETRY), [sample.path for sample in dataset.test])
    for sample, image in zip(dataset.test, images, strict=True):
        mask = read_mask(sample.mask, sample.path, GEOMETRY) if sample.mask else np.zeros(GEOMETRY.shape, bool)
        features = [torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255]
        for map, scoring in scorings.items():
            _, (values,) = scoring.arrays(features)
            pooled[map].update(values, mask)
            area = auroc(tally(values.ravel(), mask.ravel()))
            if area is not None:
                own[map][sample.path.name] = area
    detector.standardised = True
    return {map: (own[map], pooled[map].figures()["auroc"] or 0.0) for map in scorings}


if __name__ == "__main__":
    sys.exit(main())
