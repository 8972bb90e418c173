"""Speed against the floor: what decoding alone and the backbone alone take on the same images in the same run.

    python benchmarks/speed.py [--data DIR] [--repeat 3] [--only NAME]

EfficientNet-Lite0, 256×256, the defaults of each detector, on MTD and on PNG files of 900×900 pixels (the images of
mvtec/bottle enlarged, with noise of a camera's size). The floor of a fit is to make the backbone's graph, decode the
training images and extract their features, each of the three by itself on all cores, added up; that of a prediction
the same without the making. Medians; the imports are done before. Prints a table and appends it to
benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

import blemish
from blemish.backbones import DEFAULT
from blemish.backbones.backbone import Backbone
from blemish.backbones.levels import layers_of_strides
from blemish.backbones.weights import find_weights
from blemish.datasets import Dataset, Sample, read_source
from blemish.detectors import DETECTORS, Trained
from blemish.engines.openvino_engine import OpenVINOEngine
from blemish.images import Geometry, decode_ahead, read_image
from blemish.model import Model
from results import Table, append, data_folder

PNG = "900×900 PNG"
SOURCES = {"mtd": "mtd:{data}/mtd", PNG: "{data}/mvtec/bottle"}
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
        for detector, kind in DETECTORS.items()
        if not issubclass(kind, Trained) and (not arguments.only or arguments.only in f"{name} {detector}")
    ]
    head = ["data", "detector", "stage", "images", "decode", "backbone", "all, ms/image", "ratio to the floor"]
    whole = Table(head, 3)
    fitted = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, source, detector in chosen:
            dataset = read_source(source, 0) if name != PNG else as_png(read_source(source, 0), Path(folder))
            fitted[detector] = measure(whole, name, dataset, detector, arguments.repeat)
    print()
    single = Table(
        ["detector", "backbone p50", "backbone p99", "predict p50, ms", "predict p99, ms", "ratio of p50"], 1
    )
    for detector, (model, extractor) in fitted.items():
        image = np.random.default_rng(0).integers(0, 256, (*GEOMETRY.shape, 3), dtype=np.uint8)
        alone, found = [], []
        for _ in range(200):
            alone.append(1e3 * timed(partial(extract, extractor, [image]))[0])
            found.append(1e3 * timed(partial(predict, model, image))[0])
        figures = [np.percentile(times, share) for times in (alone, found) for share in (50, 99)]
        single.row(detector, *(f"{figure:.1f}" for figure in figures), f"{figures[2] / figures[0]:.2f}")
    if not arguments.only:
        command = "python benchmarks/speed.py"
        append("Speed against the floor", command, [*whole.lines, "", "One image at a time:", "", *single.lines])
    return 0


def measure(table: Table, name: str, dataset: Dataset, detector: str, repeat: int) -> tuple[Model, OpenVINOEngine]:
    """Fit and predict beside their floors, a row each."""
    train, test = ([sample.path for sample in part] for part in (dataset.train, dataset.test))
    rounds = []
    for _ in range(repeat):
        making, extractor = timed(partial(make_extractor, detector))
        decoding, images = timed(partial(decode, train))
        extracting, _ = timed(partial(extract, extractor, images))
        fitting, model = timed(partial(blemish.fit, dataset, detector=detector))
        rounds.append((decoding, making + extracting, fitting))
    report(table, name, detector, "fit", len(train), rounds)
    predict(model, test)  # compiles
    rounds = []
    for _ in range(repeat):
        decoding, images = timed(partial(decode, test))
        extracting, _ = timed(partial(extract, extractor, images))
        predicting, _ = timed(partial(predict, model, test))
        rounds.append((decoding, extracting, predicting))
    report(table, name, detector, "predict with maps", len(test), rounds)
    return model, extractor


def predict(model: Model, sources: Any) -> None:
    for _ in model.predict(sources):
        pass


def as_png(dataset: Dataset, folder: Path) -> Dataset:
    """The same images as PNG files of 900×900 pixels."""
    rng = np.random.default_rng(0)

    def written(sample: Sample) -> Sample:
        path = folder / f"{sample.kind}-{sample.path.parent.parent.name}-{sample.path.stem}.png"
        if not path.exists():
            with Image.open(sample.path) as image:
                large = np.asarray(image.convert("RGB").resize((900, 900), Image.Resampling.BICUBIC))
            noisy = large + rng.normal(0, 1.5, large.shape)
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path)
        return replace(sample, path=path, mask=None)

    return replace(
        dataset,
        train=[written(sample) for sample in dataset.train],
        test=[written(sample) for sample in dataset.test],
        has_masks=False,
    )


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
