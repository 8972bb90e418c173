"""A GPU beside the processor: the same scores, and the time of fits and predictions.

    python benchmarks/gpu.py [--data DIR] [--device cuda] [--repeat 3]

DIR is a folder as mvtec/bottle is. Every detector is fitted on the processor and on the device. The model fitted on the
processor predicts the test images on OpenVINO, on torch's processor and on torch's device; the model fitted on the
device predicts them there. Times are medians, in ms an image, with reading and maps; the first run, which compiles, is
left out. A score's difference is a share of the range of the scores, a map's a share of the range of all maps. Trained
detectors draw `--drawn` images for each of two epochs. Prints two tables and appends them to benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

import blemish
from blemish.datasets import read_source
from blemish.detectors import DETECTORS, Trained
from blemish.model import Model
from results import Table, append, data_folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=f"{data_folder()}/mvtec/bottle")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--drawn", type=int, default=64)
    arguments = parser.parse_args()
    dataset = read_source(arguments.data, 0)
    images = [str(sample.path) for sample in dataset.test]
    runs = {"openvino": "cpu", "torch": "cpu", arguments.device: arguments.device}
    name = torch.cuda.get_device_name(arguments.device) if "cuda" in arguments.device else arguments.device
    fits = Table(["detector", "fit on the processor, s", f"on {arguments.device}, s", "ratio"], 1)
    fitted = {}
    for device in ("cpu", arguments.device):  # loads libraries, starts the device
        blemish.fit(dataset, detector="gaussian", device=device)
    for detector, kind in DETECTORS.items():
        settings = {"epochs": 2, "drawn": arguments.drawn} if issubclass(kind, Trained) else {}
        times = []
        for device in ("cpu", arguments.device):
            start = time.perf_counter()
            fitted[detector, device] = blemish.fit(dataset, detector=detector, settings=settings, device=device)
            times.append(time.perf_counter() - start)
        fits.row(detector, *(f"{seconds:.1f}" for seconds in times), f"{times[0] / times[1]:.1f}")
    print()
    head = ["detector", *(f"{run}, ms/image" for run in runs), "score differs", "map differs", "other verdicts"]
    found = Table([*head, "score, fitted there", "other verdicts, fitted there"], 1)
    with tempfile.TemporaryDirectory() as folder:
        for detector in DETECTORS:
            path = Path(folder) / detector
            fitted[detector, "cpu"].save(path)
            speeds, results = [], {}
            for engine, device in runs.items():
                model = blemish.load(path, engine="openvino" if engine == "openvino" else "torch", device=device)
                speed, results[engine] = _predicted(model, images, arguments.repeat)
                speeds.append(f"{speed:.1f}")
            reference, there = results["openvino"], results[arguments.device]
            _, own = _predicted(fitted[detector, arguments.device], images, 1)
            found.row(
                detector,
                *speeds,
                f"{_differs(reference.scores, there.scores):.1e}",
                f"{_differs(reference.maps, there.maps):.1e}",
                str(np.sum(reference.verdicts != there.verdicts)),
                f"{_differs(reference.scores, own.scores):.1e}",
                str(np.sum(reference.verdicts != own.verdicts)),
            )
    told = f"{name}, torch {torch.__version__}; {len(dataset.train)} images to learn from, {len(images)} to predict."
    append("A GPU beside the processor", "python benchmarks/gpu.py", [told, "", *fits.lines, "", *found.lines])


class _Results:
    """Scores, maps and verdicts of all images."""

    def __init__(self, predictions: list[Any]) -> None:
        self.scores = np.array([each.score for each in predictions])
        self.maps = np.stack([each.map for each in predictions])
        self.verdicts = np.array([each.is_anomaly for each in predictions])


def _predicted(model: Model, images: list[str], repeat: int) -> tuple[float, _Results]:
    """Returns the median of ms an image, and the results."""
    results = list(model.predict(images))  # compiles
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        results = list(model.predict(images))
        times.append(1e3 * (time.perf_counter() - start) / len(images))
    return median(times), _Results(results)


def _differs(expected: np.ndarray, found: np.ndarray) -> float:
    """Returns the largest difference as a share of the expected range."""
    return float(np.abs(expected - found).max() / np.ptp(expected))


if __name__ == "__main__":
    sys.exit(main())
