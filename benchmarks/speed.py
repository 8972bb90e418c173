"""Speed against the floor: what decoding alone and the backbone alone take on the same images in the same run.

    python benchmarks/speed.py [--data DIR] [--repeat 3] [--only NAME]

EfficientNet-Lite0, 256×256, the defaults of each detector. The floor of a fit is to make the backbone's graph, decode
the training images and extract their features, each of the three by itself on all cores, added up; that of a prediction
the same without the making. Medians; the imports are done before. Prints a table and appends it to
benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import blemish
from blemish.backbones import DEFAULT, Backbone, find_weights, layers_of_strides
from blemish.datasets import read_source
from blemish.detectors import DETECTORS
from blemish.engines.openvino_engine import OpenVINOEngine
from blemish.images import Geometry, decode_ahead, read_image
from blemish.model import Model
from results import Table, append, data_folder

SOURCES = {"mtd": "mtd:{data}/mtd", "bottle, 900×900 PNG": "{data}/mvtec/bottle"}
GEOMETRY = Geometry()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=data_folder())
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", help="rows whose data or detector contains this; nothing is then appended")
    arguments = parser.parse_args()
    chosen = [
        (name, source.format(data=arguments.data), detector)
        for name, source in SOURCES.items()
        for detector in DETECTORS
        if not arguments.only or arguments.only in f"{name} {detector}"
    ]
    whole = Table(
        ["data", "detector", "stage", "images", "decode", "backbone", "all, ms/image", "ratio to the floor"], 3
    )
    fitted: dict[str, tuple[Model, OpenVINOEngine]] = {}
    for name, source, detector in chosen:
        dataset = read_source(source, 0)
        train, test = ([sample.path for sample in part] for part in (dataset.train, dataset.test))
        rounds = []
        for _ in range(arguments.repeat):
            making, extractor = timed(partial(make_extractor, detector))
            decoding, images = timed(partial(decode, train))
            extracting, _ = timed(partial(extract, extractor, images))
            fitting, model = timed(partial(blemish.fit, dataset, detector=detector))
            rounds.append((decoding, making + extracting, fitting))
        report(whole, name, detector, "fit", len(train), rounds)
        rounds = []
        list(model.predict(str(test[0])))
        for _ in range(arguments.repeat + 1):
            decoding, images = timed(partial(decode, test))
            extracting, _ = timed(partial(extract, extractor, images))
            predicting, _ = timed(lambda model=model, test=test: list(model.predict(test)))
            rounds.append((decoding, extracting, predicting))
        report(whole, name, detector, "predict with maps", len(test), rounds[1:])  # the first compiled the graph
        fitted[detector] = model, extractor
    print()
    single = Table(
        ["detector", "backbone p50", "backbone p99", "predict p50, ms", "predict p99, ms", "ratio of p50"], 1
    )
    for detector, (model, extractor) in fitted.items():
        image = np.random.default_rng(0).integers(0, 256, (*GEOMETRY.shape, 3), dtype=np.uint8)
        alone, found = [], []
        for _ in range(200):
            alone.append(timed(partial(extract, extractor, [image]))[0] * 1e3)
            found.append(timed(lambda model=model, image=image: list(model.predict(image)))[0] * 1e3)
        figures = [np.percentile(times, share) for times in (alone, found) for share in (50, 99)]
        single.row(detector, *(f"{figure:.1f}" for figure in figures), f"{figures[2] / figures[0]:.2f}")
    if not arguments.only:
        command = "python benchmarks/speed.py"
        append("Speed against the floor", command, [*whole.lines, "", "One image at a time:", "", *single.lines])
    return 0


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def make_extractor(detector: str) -> OpenVINOEngine:
    """The backbone's graph for the detector's layers, compiled."""
    weights, _ = find_weights(DEFAULT, None)
    layers = layers_of_strides(DEFAULT, DETECTORS[detector].strides)
    engine = OpenVINOEngine.from_module(Backbone(DEFAULT, layers, weights), *GEOMETRY.shape)
    extract(engine, [np.zeros((*GEOMETRY.shape, 3), np.uint8)] * 2)
    return engine


def decode(paths: list[Path]) -> list[Any]:
    return list(decode_ahead(partial(read_image, geometry=GEOMETRY), paths))


def extract(engine: OpenVINOEngine, images: list[Any]) -> None:
    for _ in engine.run(np.stack(images[start : start + 32]) for start in range(0, len(images), 32)):
        pass


def report(table: Table, name: str, detector: str, stage: str, count: int, rounds: list[tuple[float, ...]]) -> None:
    decoding, extracting, whole = (median(times) for times in zip(*rounds, strict=True))
    ratio = median(everything / (first + second) for first, second, everything in rounds)
    figures = [f"{1000 * seconds / count:.2f}" for seconds in (decoding, extracting, whole)]
    table.row(name, detector, stage, str(count), *figures, f"{ratio:.2f}")


if __name__ == "__main__":
    sys.exit(main())
