"""Why FRE's defaults are what they are: image AUROC by layers, weights, power and variance on several sets at once.

    python benchmarks/fre_defaults.py [--data DIR]

No default is chosen on one set. Features are computed once a set; every choice is scored on them. Prints a table and
appends it to benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from blemish.backbones import DEFAULT
from blemish.backbones.backbone import Backbone
from blemish.backbones.weights import find_weights
from blemish.datasets import Dataset, Sample, read_source
from blemish.detectors import FRE
from blemish.engines.openvino_engine import OpenVINOEngine
from blemish.engines.stream import stream
from blemish.images import Geometry
from blemish.metrics import auroc, tally
from results import append, data_folder

LEVELS = (2, 3, 4)
EQUAL, MIDDLE = (1.0, 1.0, 1.0), (1.0, 2.0, 1.0)
CHOICES: list[tuple[str, tuple[int, ...], FRE]] = [
    ("stride 16, power 1 (the norm)", (1,), FRE(power=1)),
    ("stride 16, power 6", (1,), FRE(power=6)),
    ("strides 16, 32, power 6", (1, 2), FRE(power=6)),
    ("strides 8, 16, 32, equal weights, power 1", (0, 1, 2), FRE(power=1, weights=EQUAL)),
    ("strides 8, 16, 32, equal weights, power 6", (0, 1, 2), FRE(power=6, weights=EQUAL)),
    ("strides 8, 16, 32, weights 1 2 1, power 1", (0, 1, 2), FRE(power=1, weights=MIDDLE)),
    ("strides 8, 16, 32, weights 1 2 1, power 4", (0, 1, 2), FRE(power=4, weights=MIDDLE)),
    ("strides 8, 16, 32, weights 1 2 1, power 6: the default", (0, 1, 2), FRE()),
    ("strides 8, 16, 32, weights 1 2 1, power 8", (0, 1, 2), FRE(power=8, weights=MIDDLE)),
    ("strides 8, 16, 32, weights 1 2 1, power 64 (the maximum)", (0, 1, 2), FRE(power=64, weights=MIDDLE)),
    ("the default with variance 0.9", (0, 1, 2), FRE(variance=0.9)),
    ("the default with variance 0.99", (0, 1, 2), FRE(variance=0.99)),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=data_folder())
    data = Path(parser.parse_args().data)
    weights, _ = find_weights(DEFAULT)
    geometry = Geometry()
    engine = OpenVINOEngine.from_module(Backbone(DEFAULT, LEVELS, weights), *geometry.shape)
    columns = []
    with tempfile.TemporaryDirectory() as scratch:
        for name, dataset in data_sets(data, Path(scratch)):
            columns.append((name, one_set(engine, geometry, dataset)))
            print(name, " ".join(f"{100 * figure:.2f}" for figure in columns[-1][1]), flush=True)
    head = ["choice", *(name for name, _ in columns), "mean"]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "--:|" * (len(head) - 1)]
    for index, (label, _, _) in enumerate(CHOICES):
        figures = [column[index] for _, column in columns]
        cells = [f"{100 * figure:.2f}" for figure in [*figures, float(np.mean(figures))]]
        lines.append("| " + " | ".join([label, *cells]) + " |")
    print("\n".join(lines))
    append("FRE's defaults", "python benchmarks/fre_defaults.py", lines)


def data_sets(data: Path, scratch: Path) -> list[tuple[str, Dataset]]:
    """Six kinds of normal: tiles, bottles, nuts, solar cells, grassland, digits."""
    livestock = read_source(f"livestock:{data / 'livestock'}")
    order = np.random.default_rng(0).permutation(len(livestock.train))
    good = [livestock.train[index] for index in order[:1100]]
    animals = [livestock.test[index] for index in np.random.default_rng(0).permutation(len(livestock.test))[:400]]
    return [
        ("mtd", read_source(f"mtd:{data / 'mtd'}")),
        ("bottle", read_source(data / "mvtec" / "bottle")),
        ("hazelnut", read_source(data / "mvtec" / "hazelnut_reduced")),
        ("elpv mono", read_source("elpv:mono")),
        ("elpv poly", read_source("elpv:poly")),
        ("livestock", Dataset("livestock", "livestock", good[:800], good[800:] + animals)),
        *((f"digit {digit}", digits(data, scratch, digit)) for digit in (4, 8)),
    ]


def digits(data: Path, scratch: Path, digit: int) -> Dataset:
    """One digit as the normal class."""
    with np.load(data / "mnist" / "mnist.npz") as mnist:
        train = mnist["x_train"][mnist["y_train"] == digit][:500]
        same = mnist["x_test"][mnist["y_test"] == digit][:200]
        others = mnist["x_test"][mnist["y_test"] != digit][:400]

    def written(part: str, images: np.ndarray, kind: str) -> list[Sample]:
        samples = []
        for index, image in enumerate(images):
            path = scratch / f"{digit}-{part}-{index}.png"
            Image.fromarray(image).save(path)
            samples.append(Sample(path, kind))
        return samples

    test = written("same", same, "good") + written("others", others, "another digit")
    return Dataset("digits", f"digit {digit}", written("train", train, "good"), test)


def one_set(engine: OpenVINOEngine, geometry: Geometry, dataset: Dataset) -> list[float]:
    """Image AUROC of every choice."""
    train = features(engine, geometry, dataset.train)
    test = features(engine, geometry, dataset.test)
    labels = [sample.is_anomalous for sample in dataset.test]
    figures = []
    for _, layers, settings in CHOICES:
        detector = FRE(variance=settings.variance, power=settings.power, weights=settings.weights)
        detector.update([train[layer] for layer in layers])
        head = detector.head()
        scores = []
        with torch.inference_mode():
            for start in range(0, len(labels), 64):
                batch = tuple(test[layer][start : start + 64] for layer in layers)
                coarse = head(batch)
                scores += head.score(batch, coarse, coarse).tolist()
        figures.append(auroc(tally(scores, labels)) or float("nan"))
    return figures


def features(engine: OpenVINOEngine, geometry: Geometry, samples: list[Sample]) -> list[Tensor]:
    """All samples' feature maps, layer by layer."""
    chunks = [chunk.arrays for chunk in stream(engine, [sample.path for sample in samples], geometry)]
    return [torch.from_numpy(np.concatenate(layer)) for layer in zip(*chunks, strict=True)]


if __name__ == "__main__":
    main()
