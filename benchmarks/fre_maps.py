"""What two choices change: how FRE joins the maps of layers, and which components of a Gaussian count as dead.

    python benchmarks/fre_maps.py [--data DIR]

FRE's eq. 3 to the letter (`join="product"`: maps resized to the input, then multiplied) against logarithms that are
interpolated on the finest grid (`logs`); and MVG with all components that float64 can tell (`rtol="float64"`) against
`float32`. EfficientNet-Lite0 at 256×256, on bottle, the reduced hazelnut, and magnetic tiles, without shifted copies.
Prints a table and appends it to benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from blemish.backbones import DEFAULT
from blemish.backbones.backbone import Backbone
from blemish.backbones.weights import find_weights
from blemish.datasets import Sample, read_source, read_truth
from blemish.detectors import FRE, Detector, Gaussian
from blemish.detectors.scoring import Scoring
from blemish.engines.openvino_engine import OpenVINOEngine
from blemish.engines.stream import stream
from blemish.images import Geometry
from blemish.metrics import PixelTally, auroc, tally
from results import Table, append, data_folder

LEVELS = (1, 2, 3, 4)
EQUAL = (1.0, 1.0, 1.0)
PAPER = {"power": 1.0, "weights": EQUAL, "interpolation": "bilinear"}
CHOICES: list[tuple[str, tuple[int, ...], Detector]] = [
    *((f"FRE, strides 8, 16, 32, {join}", (2, 3, 4), FRE(join=join)) for join in ("product", "logs")),
    *(
        (f"FRE as in the paper, strides 8, 16, 32, {join}", (2, 3, 4), FRE(join=join, **PAPER))
        for join in ("product", "logs")
    ),
    *(
        (f"FRE as in the paper, strides 4, 8, 16, {join}", (1, 2, 3), FRE(join=join, **PAPER))
        for join in ("product", "logs")
    ),
    *((f"MVG, stride 32, {rule}", (4,), Gaussian(rtol=rule)) for rule in ("float64", "float32")),
    *((f"MVG, strides 8, 16, 32, {rule}", (2, 3, 4), Gaussian(rtol=rule)) for rule in ("float64", "float32")),
]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=data_folder())
    data = Path(parser.parse_args().data)
    weights, _ = find_weights(DEFAULT)
    geometry = Geometry()
    engine = OpenVINOEngine.from_module(Backbone(DEFAULT, LEVELS, weights), *geometry.shape)
    table = Table(["set", "detector", "image AUROC", "pixel AUROC", "pixel AUPR", "AUPRO", "dropped"], 2)
    for name, source in (
        ("bottle", data / "mvtec" / "bottle"),
        ("hazelnut", data / "mvtec" / "hazelnut_reduced"),
        ("mtd", f"mtd:{data / 'mtd'}"),
    ):
        dataset = read_source(source)
        train, test = (features(engine, geometry, part) for part in (dataset.train, dataset.test))
        labels = [sample.is_anomalous for sample in dataset.test]
        masks = [np.asarray(read_truth(sample, geometry=geometry)) for sample in dataset.test]
        for label, levels, detector in CHOICES:
            places = [LEVELS.index(level) for level in levels]
            detector = type(detector)(**detector.settings())
            detector.update([train[place] for place in places])
            figures = figures_of(Scoring(detector, geometry.shape), [test[place] for place in places], labels, masks)
            dropped = detector.summary().get("dropped_components", [])
            cells = [f"{100 * figure:.2f}" for figure in figures]
            table.row(name, label, *cells, " ".join(map(str, dropped)) or "–")
    append("How FRE joins maps, and which components MVG drops", "python benchmarks/fre_maps.py", table.lines)
    return 0


def features(engine: OpenVINOEngine, geometry: Geometry, samples: list[Sample]) -> list[Tensor]:
    """All samples' feature maps, layer by layer."""
    chunks = [chunk.arrays for chunk in stream(engine, [sample.path for sample in samples], geometry)]
    return [torch.from_numpy(np.concatenate(layer)) for layer in zip(*chunks, strict=True)]


def figures_of(scoring: Scoring, layers: list[Tensor], labels: list[bool], masks: list[np.ndarray]) -> list[float]:
    """Image AUROC, pixel AUROC, pixel AUPR and AUPRO."""
    scores: list[float] = []
    pixels = PixelTally()
    for start in range(0, len(labels), 16):
        found, maps = scoring.arrays([layer[start : start + 16] for layer in layers])
        scores += found.tolist()
        for map_, mask in zip(maps, masks[start:], strict=False):
            pixels.update(map_, mask)
    told = pixels.figures()
    figures = [auroc(tally(scores, labels)), told["auroc"], told["aupr"], told["aupro"]]
    return [float("nan") if figure is None else figure for figure in figures]


if __name__ == "__main__":
    sys.exit(main())
