"""HFR's figures: how well it finds defects and digits, what an epoch costs, and why its decoder is as wide as it is.

    python benchmarks/hfr.py sets [--data DIR]
    python benchmarks/hfr.py mnist [--data DIR]
    python benchmarks/hfr.py speed [--rounds 5] [--compile]
    python benchmarks/hfr.py ablation [--data DIR]

`sets` fits and evaluates as a user does. `mnist` is `blemish bench run hfr-table-2 --detector hfr --size 96` with
`--set width=1` and `--set epochs=12`, on at most 2,000 training images a digit and all 10,000 test images. `speed`
times epochs over 64 images of 256×256 in turns: on kept features in memory and in a file, beside the decoder's own
steps on features that are there already, and beside epochs that run the backbone; and the step itself in other ways.
`ablation` trains decoders of several depths and widths on two sets, whose features are computed once.
Each prints its table and appends
it to benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import blemish
from blemish.backbones import DEFAULT
from blemish.backbones.backbone import Backbone
from blemish.backbones.weights import find_weights
from blemish.bench.names import find_protocol
from blemish.bench.options import Options
from blemish.bench.run import run
from blemish.datasets import Dataset, read_source
from blemish.detectors import HFR
from blemish.detectors.scoring import Scoring
from blemish.engines import Engine
from blemish.engines.openvino_engine import OpenVINOEngine
from blemish.engines.stream import stream
from blemish.fitting.cache import FeatureCache
from blemish.fitting.trained.kept_features import KeptFeatures
from blemish.fitting.trained.learn import Run, train_detector
from blemish.images import Geometry, read_mask
from blemish.metrics import PixelTally, auroc, tally
from blemish.training import Schedule, train
from results import Table, append, data_folder, held_against

STRIDES = {4: 1, 8: 2, 16: 3, 32: 4}
"""Of EfficientNet-Lite0's levels."""


@dataclass(frozen=True)
class Row:
    """A fit, what the paper has for it with ResNet-18, and what it should reach, in per cent."""

    data: str
    source: str
    name: str
    options: dict[str, Any]
    published: str = "–"
    least: dict[str, float] = field(default_factory=dict)


FIGURES = ("image AUROC", "pixel AUROC", "AUPRO")
BOTTLE = {"image AUROC": 99.8, "pixel AUROC": 98.3, "AUPRO": 95.5}
BF16 = {"precision": "bf16-mixed"}
ROWS = [
    Row("bottle", "{data}/mvtec/bottle", "hfr-lite0", {"preset": "hfr-lite0"}, "100 / 97.4 / 91.4", BOTTLE),
    Row("mtd", "mtd:{data}/mtd", "hfr, bf16", {"detector": "hfr", "settings": BF16}, "–", {"image AUROC": 94}),
    Row(
        "hazelnut, reduced", "{data}/mvtec/hazelnut_reduced", "hfr-lite0", {"preset": "hfr-lite0"}, "100 / 98.1 / 96.9"
    ),
    Row("hazelnut, reduced", "{data}/mvtec/hazelnut_reduced", "hfr", {"detector": "hfr"}, "100 / 98.1 / 96.9"),
]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["sets", "mnist", "speed", "ablation"])
    parser.add_argument("--data", default=data_folder())
    parser.add_argument("--only", default="", help="of sets: rows whose data or name contains this; nothing is kept")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", action="store_true", help="torch.compile of the decoder too; minutes more")
    arguments = parser.parse_args()
    if arguments.what == "sets":
        return sets(arguments.data, arguments.only)
    if arguments.what == "mnist":
        return mnist(arguments.data)
    if arguments.what == "speed":
        speed(arguments.rounds, arguments.compile)
    else:
        ablation(arguments.data)
    return 0


def sets(data: str, only: str) -> int:
    table = Table(["data", "detector", *FIGURES, "published, ResNet-18", "fit s", "predict ms/image"], 2)
    missed = 0
    for row in ROWS:
        if only not in f"{row.data} {row.name}":
            continue
        source = row.source.format(data=data)
        start = time.perf_counter()
        model = blemish.fit(source, seed=0, **row.options)
        seconds = time.perf_counter() - start
        found = blemish.evaluate(model, source)
        figures = dict(zip(FIGURES, (found.image["auroc"], found.pixel["auroc"], found.pixel["aupro"]), strict=True))
        cells, below = held_against(figures, row.least)
        missed += below
        table.row(row.data, row.name, *cells, row.published, f"{seconds:.0f}", f"{1000 * found.seconds_per_image:.1f}")
    if not only:
        append("HFR", "python benchmarks/hfr.py sets", table.lines)
    return missed


DIGITS = {"width": 1.0, "epochs": 12}
"""Of what `mnist` measures, to stay within three minutes a digit."""


def mnist(data: str) -> int:
    table = Table(["digit", "images to train", "to test", "AUROC", "fit s", "predict s"], 1)
    protocol = find_protocol("hfr-table-2")
    with tempfile.TemporaryDirectory() as folder:
        options = Options(detector="hfr", size=96, images=2000, settings=DIGITS)
        results = run(protocol, f"{data}/mnist/mnist.npz", Path(folder) / "results.jsonl", options)
    for result in results:
        seconds = (f"{result.seconds['fit']:.0f}", f"{result.seconds['evaluate']:.0f}")
        counts = (str(result.data["train"]), str(result.data["test"]))
        table.row(result.category, *counts, f"{result.figures['image.auroc']:.4f}", *seconds)
    mean = statistics.mean(result.figures["image.auroc"] for result in results)
    slowest = max(sum(result.seconds.values()) for result in results)
    table.row("mean (≥ 0.987)", "", "", f"{mean:.4f}", f"slowest {slowest:.0f}", "")
    for name in ("HFR (ResNet-18)", "HFR (Wide ResNet-50-2)"):
        (figure,) = protocol.published[name]["MNIST"]
        table.row(f"{name}, published", "", "", f"{float(figure) / 100:.3f}", "", "")
    append("HFR, one class of MNIST", "python benchmarks/hfr.py mnist", table.lines)
    return int(mean < 0.987)


IMAGES = np.random.default_rng(0).integers(0, 256, (64, 256, 256, 3), dtype=np.uint8)


def speed(rounds: int, compiled: bool) -> None:
    detector = HFR()
    weights, _ = find_weights(DEFAULT)
    backbone = Backbone(DEFAULT, [STRIDES[stride] for stride in detector.strides], weights).eval()
    openvino = OpenVINOEngine.from_module(backbone, 256, 256)
    features = [
        torch.from_numpy(layer) for layer in whole(openvino.run([IMAGES[i : i + 16] for i in range(0, 64, 16)]))
    ]
    caches = {budget: FeatureCache(budget) for budget in (1 << 34, 0)}
    for cache in caches.values():
        cache.append([layer.numpy() for layer in features])

    def by_torch(orders: list[list[int]]) -> Iterator[list[Tensor]]:
        for order in orders:
            with torch.no_grad():
                found = list(backbone(torch.from_numpy(IMAGES[order])))
            yield found

    def by_openvino(orders: list[list[int]]) -> Iterator[list[Tensor]]:
        for order in orders:
            (arrays,) = openvino.run([IMAGES[order]])
            yield [torch.from_numpy(np.array(array)) for array in arrays]

    ready = {size: [[layer[i : i + size] for layer in features] for i in range(0, 64, size)] for size in (8, 16)}
    sources: dict[str, Callable[[list[list[int]]], Iterator[list[Tensor]]]] = {
        "the decoder's own steps": lambda given: iter(ready[len(given[0])]),
        "features kept in memory": KeptFeatures(caches[1 << 34], 0, judged=False).batches,
        "features kept in a file": KeptFeatures(caches[0], 0, judged=False).batches,
        "the backbone in OpenVINO, every time": by_openvino,
        "the backbone in torch, every time": by_torch,
    }
    ways: dict[str, Callable[[], float]] = {
        name: partial(epoch, features, source, HFR()) for name, source in sources.items()
    }
    own = sources["the decoder's own steps"]
    ways |= {
        "a step in bf16-mixed": partial(epoch, features, own, HFR(precision="bf16-mixed")),
        "a step with contiguous tensors": partial(epoch, features, own, HFR(), torch.contiguous_format),
        "a step at half the width": partial(epoch, features, own, HFR(width=HFR.width / 2)),
        "a step of 16 images": partial(epoch, features, own, HFR(batch=16)),
    }
    if compiled:
        ways["a step, compiled"] = partial(epoch, features, own, HFR(), compiled=True)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            found = way()
            if number:  # the first round warms up
                times[name].append(found)
    base = statistics.median(times["the decoder's own steps"])
    table = Table(["64 images", "seconds", "ms an image", "against the decoder's own steps"], 1)
    for name, each in times.items():
        median = statistics.median(each)
        table.row(name, f"{median:.2f}", f"{1000 * median / 64:.1f}", f"{median / base:.2f} x")
    append("HFR's epochs and steps", "python benchmarks/hfr.py speed" + " --compile" * compiled, table.lines)


MODULES: dict[tuple[object, ...], Any] = {}


def epoch(
    features: list[Tensor],
    batches: Callable[[list[list[int]]], Iterator[list[Tensor]]],
    detector: HFR,
    memory_format: torch.memory_format = torch.channels_last,
    compiled: bool = False,
) -> float:
    """Seconds for an epoch of 64 images."""
    key = (detector.width, detector.batch, detector.precision, memory_format, compiled)
    if key not in MODULES:
        detector.update(features)
        MODULES[key] = torch.compile(detector.objective(), dynamic=False) if compiled else detector.objective()
    module = MODULES[key]
    if memory_format != torch.channels_last:
        return plain_epoch(module, batches, detector)
    schedule = Schedule(epochs=1, batch=detector.batch, learning_rate=1e-3, precision=detector.precision)
    start = time.perf_counter()
    train(module, batches, 64, schedule)
    return time.perf_counter() - start


def plain_epoch(module: Any, batches: Callable[[list[list[int]]], Iterator[list[Tensor]]], detector: HFR) -> float:
    """The same with weights as torch has them by default."""
    orders = [list(range(start, start + detector.batch)) for start in range(0, 64, detector.batch)]
    (optimizer,) = module.optimizers(1e-3)
    module.train()
    start = time.perf_counter()
    for batch in batches(orders):
        optimizer.zero_grad(set_to_none=True)
        module(batch)["loss"].backward()
        optimizer.step()
    return time.perf_counter() - start


EPOCHS = 8
ABLATION: list[tuple[tuple[int, ...], dict[str, Any]]] = [
    ((4, 8, 16), {}),
    ((8, 16, 32), {}),
    ((4, 8, 16, 32), {}),
    ((8, 16, 32), {"width": 1.0}),
    ((8, 16, 32), {"width": 0.5}),
    ((8, 16, 32), {"width": 1.0, "depth": 2}),
    ((8, 16, 32), {"width": 1.0, "weighting": "equal"}),
]


def ablation(data: str) -> None:
    """Every choice on every set, trained for as many epochs in bf16, without patience."""
    weights, _ = find_weights(DEFAULT)
    geometry = Geometry()
    engine = OpenVINOEngine.from_module(Backbone(DEFAULT, list(STRIDES.values()), weights), *geometry.shape)
    columns: list[list[list[str]]] = []
    for source in (f"{data}/mvtec/bottle", f"mtd:{data}/mtd"):
        dataset = read_source(source, 0)
        train, test = (kept(engine, [sample.path for sample in part]) for part in (dataset.train, dataset.test))
        columns.append([])
        for strides, settings in ABLATION:
            columns[-1].append(judged(dataset, train, test, strides, settings))
            print(source, strides, settings, columns[-1][-1], flush=True)
    table = Table(["strides", "settings", "parameters", "bottle", "s", "mtd", "s"], 2)
    for (strides, settings), *rows in zip(ABLATION, *columns, strict=True):
        told = ", ".join(f"{name} {value}" for name, value in settings.items()) or "the defaults"
        table.row(", ".join(map(str, strides)), told, rows[0][0], *(cell for row in rows for cell in row[1:]))
    note = f"After {EPOCHS} epochs of bf16-mixed. Image AUROC; of bottle that, pixel AUROC and AUPRO."
    append("HFR by depth and width", "python benchmarks/hfr.py ablation", [*table.lines, "", note])


def kept(engine: Engine, paths: list[Path]) -> list[np.ndarray]:
    """Features of all images."""
    return whole(chunk.arrays for chunk in stream(engine, paths, Geometry()))


def judged(
    dataset: Dataset,
    train: list[np.ndarray],
    test: list[np.ndarray],
    strides: tuple[int, ...],
    settings: dict[str, Any],
) -> list[str]:
    """Parameters, figures and seconds."""
    layers = [list(STRIDES).index(stride) for stride in strides]
    detector = HFR(**settings, epochs=EPOCHS, precision="bf16-mixed", patience=None)
    detector.update([torch.from_numpy(train[layer]) for layer in layers])
    cache = FeatureCache(1 << 34).append([train[layer] for layer in layers])
    start = time.perf_counter()
    train_detector(detector, KeptFeatures(cache, 0, judged=False), Run(), None)
    seconds = time.perf_counter() - start
    scoring = Scoring(detector, Geometry().shape)
    scores: list[float] = []
    pixels = PixelTally()
    for index, sample in enumerate(dataset.test):
        found, maps = scoring.arrays([torch.from_numpy(test[layer][index : index + 1]) for layer in layers])
        scores += found.tolist()
        if "bottle" in dataset.root:
            mask = read_mask(sample.mask, sample.path, Geometry()) if sample.mask else np.zeros(maps.shape[1:], bool)
            pixels.update(maps[0], mask)
    image = auroc(tally(scores, [sample.is_anomalous for sample in dataset.test]))
    figures = [image, *([pixels.figures()["auroc"], pixels.figures()["aupro"]] if "bottle" in dataset.root else [])]
    told = " / ".join("–" if figure is None else f"{100 * figure:.2f}" for figure in figures)
    return [f"{detector.summary()['parameters']:,}", told, f"{seconds:.0f}"]


def whole(batches: Any) -> list[np.ndarray]:
    """Batches of arrays as one of each."""
    parts = [[np.array(array) for array in arrays] for arrays in batches]
    return [np.concatenate(layer) for layer in zip(*parts, strict=True)]


if __name__ == "__main__":
    sys.exit(main())
