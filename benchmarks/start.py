"""A cold start: from the command to the first verdict on one image, and where the time goes.

    python benchmarks/start.py [--data DIR] [--images 60] [--repeat 7] [--python BASE/bin/python] [--append]

`blemish predict MODEL one.jpg`, as a user runs it, in a fresh environment with the base install alone, or in that of
`--python`. Models of MTD by the defaults of three detectors. Files are in the system's cache, compiled Python too.
`as a user waits` is the median of whole commands that are not looked into. The phases are those of the quickest of
further runs, in which functions are timed; from `openvino` on they overlap, so that they add up to more than the whole.
Exits with 1 if a median is above `LIMIT`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from operator import itemgetter
from pathlib import Path
from statistics import median

from install import install
from results import Table, append, data_folder

DETECTORS = ("fre", "padim", "gaussian")
LIMIT = 1.5
"""Seconds to the first verdict on 2 cores, at most."""

PHASES = ("command", "libraries", "openvino", "compare", "read", "decode", "compile features", "compile scoring")

LOOK = """
import functools, json, sys, time
took = {}

def timed(owner, attribute, name):
    call = getattr(owner, attribute)
    @functools.wraps(call)
    def wrapped(*arguments, **options):
        start = time.perf_counter()
        try:
            return call(*arguments, **options)
        finally:
            key = name(*arguments)
            took[key] = took.get(key, 0) + time.perf_counter() - start
    setattr(owner, attribute, wrapped)

def imported(name, module):
    start = time.perf_counter()
    __import__(module)
    took[name] = time.perf_counter() - start

imported("command", "blemish.cli.main")
imported("libraries", "blemish.model")
imported("openvino", "blemish.engines.openvino_engine")
import blemish.cli, blemish.engines.openvino_engine as engine, blemish.engines.stream, blemish.model.saved
compiled = set()

def compiling(graph, hint):  # whoever comes second waits for the first, and is not counted
    key = f"compile {graph.path.stem}" if graph not in compiled else "wait"
    compiled.add(graph)
    return key

timed(blemish.model.saved, "check_files", lambda *_: "compare")
timed(engine.Graph, "__init__", lambda *_: "read")
timed(engine.OpenVINOEngine, "check", lambda *_: "read")
timed(engine.Graph, "_compile", compiling)
timed(blemish.engines.stream, "read_image", lambda *_: "decode")
try:
    blemish.cli.main()
finally:
    print(json.dumps(took))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=data_folder())
    parser.add_argument("--images", type=int, default=60, help="to fit on")
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--python", type=Path, help="of an environment in which this checkout is installed")
    parser.add_argument("--append", action="store_true", help="append the table to RESULTS.md")
    arguments = parser.parse_args()
    images = sorted(Path(arguments.data, "mtd", "MT_Free", "Imgs").glob("*.jpg"))[: arguments.images + 1]
    with tempfile.TemporaryDirectory() as folder:
        python = arguments.python or install(Path(folder), "") / "bin" / "python"
        models = fitted(Path(folder), images[:-1])
        alone = median(seconds([python, "-c", "pass"]) for _ in range(arguments.repeat))
        print(f"Python alone: {1000 * alone:.0f} ms\n")
        head = ["detector", "MB", "as a user waits, s", "quickest", "slowest", *(f"{name}, ms" for name in PHASES)]
        table = Table(head, 1)
        waits = {}
        for detector, model in models.items():
            words = ["predict", model, images[-1]]
            run = [python, "-m", "blemish", *words]
            seconds(run)  # files and compiled Python are in the system's cache from now on
            waits[detector] = [seconds(run) for _ in range(arguments.repeat)]
            looked = min((look([python, "-c", LOOK, *words]) for _ in range(arguments.repeat)), key=itemgetter(0))[1]
            size = sum(file.stat().st_size for file in model.iterdir()) / 1e6
            waited = (median(waits[detector]), min(waits[detector]), max(waits[detector]))
            phases = (f"{1000 * looked.get(name, 0):.0f}" for name in PHASES)
            table.row(detector, f"{size:.0f}", *(f"{figure:.2f}" for figure in waited), *phases)
    if arguments.append:
        append("Cold start", "python benchmarks/start.py", [f"Python alone: {1000 * alone:.0f} ms", "", *table.lines])
    return int(any(median(taken) > LIMIT for taken in waits.values()))


def fitted(folder: Path, images: list[Path]) -> dict[str, Path]:
    """A model by each detector, with its defaults."""
    good = folder / "good"
    good.mkdir()
    for image in images:
        (good / image.name).symlink_to(image)
    for detector in DETECTORS:
        words = ["fit", good, "-o", folder / detector, "--detector", detector]
        subprocess.run([sys.executable, "-m", "blemish", *words], check=True, capture_output=True)
    return {detector: folder / detector for detector in DETECTORS}


def seconds(command: list[str | Path]) -> float:
    """Seconds of a command."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=environment())
    return time.perf_counter() - start


def look(command: list[str | Path]) -> tuple[float, dict[str, float]]:
    """Seconds of a command that is looked into, and those of its phases."""
    start = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment())
    return time.perf_counter() - start, json.loads(done.stdout.splitlines()[-1])


def environment() -> dict[str, str]:
    """Variables by which an environment runs what is installed in it."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


if __name__ == "__main__":
    sys.exit(main())
