"""A fit by the workers of a cluster against one process, what a summary weighs, and what that means for many workers.

    python benchmarks/cluster.py [--data DIR] [--counts 761,7610] [--detectors fre,padim,gaussian]

Images are those of MTD to train on, each again and again with a small change, since the same picture counts once.
EfficientNet-Lite0 at 256 and the defaults; a share is held out, whatever the count. Each fit is a process of its own,
after a small fit that imports, converts and compiles all; that start is told apart. Then times of single steps are
measured, each in one thread, and a simulation draws from them. Prints tables and appends them to benchmarks/RESULTS.md.
About a quarter of an hour on two cores.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from distinct import write_distinct
from results import Table, append, data_folder

HELD_OUT = {"calibration": "hold-out"}
WORKERS = (1, 2, 4, 10, 30, 100, 300, 1000)
PRICE = 0.04
"""Of a core for an hour, in dollars: an assumption, about that of a rented machine."""

NETWORK = 1.25e9
"""Bytes a second between machines: an assumption, 10 Gbit/s."""

SHARDS = 4
"""Shards whose summaries are made and merged to measure their sizes and times."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=data_folder())
    parser.add_argument("--counts", default="761,7610")
    parser.add_argument("--detectors", default="fre,padim,gaussian")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(fit(**json.loads(arguments.one))))
        return 0
    counts = [int(count) for count in arguments.counts.split(",")]
    names = arguments.detectors.split(",")
    with tempfile.TemporaryDirectory() as scratch:
        folder = write_distinct(Path(scratch) / "images", arguments.data, max(counts))
        lines = compared(folder, names, counts)
        measured = {name: measure(folder, name) for name in names}
        heavy = measure(folder, "spade", shards=4)
    lines += ["", *weights({**measured, "spade": heavy}), "", *steps(measured)]
    for images in (1_000_000, 100_000_000):
        lines += ["", f"{images:,} images, simulated:", "", *simulated(measured, images)]
    append("A fit on a cluster", " ".join(["python benchmarks/cluster.py", *sys.argv[1:]]), lines)
    return 0


def fit(folder: str, detector: str, count: int, ray: str | None) -> tuple[float, float, int]:
    """Seconds of the start and of the fit, and the process's peak in megabytes."""
    from contextlib import nullcontext

    import blemish
    from blemish.datasets import read_source
    from blemish.distributed.cluster import connect

    dataset = read_source(folder, 0)
    start = time.perf_counter()
    with connect(ray) if ray else nullcontext():
        few = replace(dataset, train=dataset.train[:140])
        blemish.fit(few, detector="gaussian", ray=ray, **HELD_OUT)  # two shards and more, so that all workers start
        started = time.perf_counter() - start
        chosen = replace(dataset, train=dataset.train[:count])
        start = time.perf_counter()
        blemish.fit(chosen, detector=detector, ray=ray, **HELD_OUT)
        seconds = time.perf_counter() - start
    return started, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def compared(folder: Path, names: list[str], counts: list[int]) -> list[str]:
    head = ["detector", "images", "one process s", "cluster s", "overhead %", "its start s", "driver's peak MB"]
    table = Table([*head, "peak of one process MB"], 1)
    for name in names:
        for count in counts:
            found = []
            for ray in (None, "local"):
                one = json.dumps({"folder": str(folder), "detector": name, "count": count, "ray": ray})
                command = [sys.executable, __file__, "--one", one]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                found.append(json.loads(done.stdout))
            (_, here, own), (start, there, driver) = found
            overhead = f"{100 * (there / here - 1):+.0f}"
            table.row(name, str(count), f"{here:.1f}", f"{there:.1f}", overhead, f"{start:.1f}", str(driver), str(own))
    return table.lines


@dataclass(frozen=True)
class Measured:
    """Seconds of single steps in one thread, several of each, and bytes.

    Attributes:
        decode: of one image.
        extract: of one image.
        learn: of one image.
        merges: of two summaries, level by level of the tree, until they grow no more.
        score: to make the scoring module from a summary.
        task: that the driver is busy with one task.
        sizes: bytes of a summary, level by level.
    """

    decode: list[float]
    extract: list[float]
    learn: list[float]
    merges: list[list[float]]
    score: float
    task: float
    sizes: list[int]

    def merge(self, level: int) -> float:
        """Mean seconds of a merge of two summaries of a level, their way over the network included."""
        known = min(level, len(self.merges) - 1)
        return float(np.mean(self.merges[known])) + 2 * self.sizes[known] / NETWORK


def measure(folder: Path, name: str, shards: int = SHARDS) -> Measured:
    import torch

    from blemish.detectors.scoring import Scoring
    from blemish.distributed.backbone import pack_backbone, unpack_backbone
    from blemish.distributed.fold import LARGEST
    from blemish.distributed.summary import empty_detector, pack, unpack
    from blemish.distributed.work import Job, merge_two
    from blemish.engines import BATCH, RunsOn
    from blemish.engines.extractor import make_extractor
    from blemish.fitting.choices import choose
    from blemish.images import read_image
    from blemish.model import Recipe

    torch.set_num_threads(1)
    chosen = choose(name, None, None, None, None, None, None, None, None, None, False, 0)
    detector, geometry = chosen.detector, chosen.geometry
    made = make_extractor(chosen.backbone, chosen.layers, detector.strides, geometry, RunsOn("openvino", "CPU"))
    detector.expect(0)
    recipe = Recipe(
        name, detector.settings(), chosen.backbone, made.normalisation, made.asked, made.layers, geometry, 0, 0
    )
    engine = unpack_backbone(pack_backbone(made, recipe), recipe)
    paths = sorted(folder.iterdir())[: LARGEST * shards]
    summaries, decode, extract, learn = [], [], [], []
    for first in range(0, len(paths), LARGEST):
        detector = empty_detector(recipe)
        for start in range(first, min(first + LARGEST, len(paths)), BATCH):
            read = [timed(read_image, path, geometry) for path in paths[start : start + BATCH]]
            batch = np.stack([image for _, image in read])
            ran, arrays = timed(next, engine.run([batch]))
            learned, _ = timed(detector.update, [torch.from_numpy(array) for array in arrays])
            decode += [took for took, _ in read]
            extract += [ran / len(batch)] * len(batch)
            learn += [learned / len(batch)] * len(batch)
        summaries.append(pack(detector))
    job = Job("", recipe, lambda: pack_backbone(made, recipe))
    merges: list[list[float]] = []
    sizes = [size(summaries[0])]
    while len(summaries) > 1:
        found = [timed(merge_two, job, *summaries[start : start + 2]) for start in range(0, len(summaries) - 1, 2)]
        merges.append([took for took, _ in found])
        summaries = [merged for _, merged in found]
        sizes.append(size(summaries[0]))
    score, _ = timed(lambda: Scoring(unpack(recipe, summaries[0]), geometry.shape))
    return Measured(decode, extract, learn, merges, score, driver_time(), sizes)


def size(packed: Mapping[str, Any]) -> int:
    """Bytes of a summary."""
    return sum(array.nbytes for array in packed.values())


def timed(function: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    start = time.perf_counter()
    found = function(*arguments)
    return time.perf_counter() - start, found


def driver_time(tasks: int = 300) -> float:
    """Seconds that the driver is busy with one task that does nothing."""
    from blemish.distributed.cluster import connect, load_ray

    def nothing(told: tuple[str, ...]) -> None:
        return None

    with connect("local"):
        ray = load_ray()
        task = ray.remote(nothing)
        ray.get(task.remote(()))
        start = time.process_time()
        running = [task.remote(("/a/path/of/an/image.png",) * 64) for _ in range(tasks)]
        while running:
            done, running = ray.wait(running, num_returns=1)
            ray.get(done)
        return (time.process_time() - start) / tasks


def weights(measured: dict[str, Measured]) -> list[str]:
    from blemish.distributed.fold import LARGEST

    table = Table(["detector", "images", "summary, bytes", "two merged, ms"], 1)
    for name, found in measured.items():
        for level, size in enumerate(found.sizes):
            took = f"{1e3 * np.median(found.merges[level]):.1f}" if level < len(found.merges) else "–"
            table.row(name, str(LARGEST << level), f"{size:,}", took)
    return table.lines


def steps(measured: dict[str, Measured]) -> list[str]:
    table = Table(["detector", "step", "5 %, ms", "median", "95 %"], 2)
    for name, found in measured.items():
        for step in ("decode", "extract", "learn"):
            quantiles = np.quantile(1e3 * np.array(getattr(found, step)), [0.05, 0.5, 0.95])
            table.row(name, f"{step} an image", *(f"{ms:.2f}" for ms in quantiles))
        table.row(name, "make the scoring module", "–", f"{1e3 * found.score:.2f}", "–")
        table.row(name, "driver, a task", "–", f"{1e3 * found.task:.2f}", "–")
    return table.lines


def simulated(measured: dict[str, Measured], images: int) -> list[str]:
    table = Table(["detector", "workers", "hours", "core hours", "dollars", "times one worker", "what holds it up"], 1)
    for name, found in measured.items():
        one = simulate(found, images, 1)[0]
        for workers in WORKERS:
            seconds, why = simulate(found, images, workers)
            hours = seconds / 3600
            cost = f"{PRICE * hours * workers:,.2f}"
            gain = f"{one / seconds:.1f}"
            table.row(name, str(workers), f"{hours:.3f}", f"{hours * workers:,.1f}", cost, gain, why)
    return table.lines


def simulate(found: Measured, images: int, workers: int) -> tuple[float, str]:
    """Seconds until the last merge is done, and what most workers waited for.

    A shard's time is drawn: the steps of its images, from those measured, and its share of the merges. It starts once a
    worker is free and the driver has come to it. At the end, the last merges follow one another.
    """
    from blemish.distributed.fold import images_of_a_shard

    rng = np.random.default_rng(0)
    size = images_of_a_shard(images)
    shards = math.ceil(images / size)
    per_image = np.array(found.decode) + np.array(found.extract) + np.array(found.learn)
    drawn = rng.choice(per_image, (min(shards, 4096), size)).sum(1)
    depth = (shards - 1).bit_length()
    share = sum(found.merge(level) / 2 ** (level + 1) for level in range(depth))  # of the merges, for one shard
    last = sum(found.merge(level) for level in range(depth))  # from a leaf to the root
    busy = 2 * found.task  # a shard and a merge
    if shards > 200_000:  # the sums, which the events below come to within a few per cent
        end, flow = shards * (float(drawn.mean()) + share) / workers, shards * busy
        late = flow > end
        end = max(end, flow)
    else:
        free = [0.0] * workers
        driver = waited = 0.0
        for shard in range(shards):
            ready = heapq.heappop(free)
            driver += busy
            waited += max(0.0, driver - ready)
            heapq.heappush(free, max(ready, driver) + float(drawn[shard % len(drawn)]) + share)
        end = max(free)
        late = waited > 0.5 * end * workers
    total = end + last + found.score
    return total, "the driver" if late else "the last merges" if last + found.score > end else "the workers"


if __name__ == "__main__":
    sys.exit(main())
