"""Exports in every format: sizes, how well they agree with the model, and speed in their own runtimes.

    python benchmarks/export.py [--data DIR] [--train N] [--only NAME]

EfficientNet-Lite0, 256×256, the defaults of `fre`, `padim` (d = 100, positions 64×64) and `gaussian`, and `padim` by
principal components, whose factors are the largest that d = 100 can have; on Magnetic Tile Defects. Scores are compared
on 200 images of the test part, good and defective, which the model has not seen. The time is the quickest of 30 images
that are given one at a time, from pixels to score and map, on all cores; the first row of a model is itself. Prints a
table and appends it to benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import blemish
from blemish.datasets import evenly_spaced, read_source
from blemish.detectors import Detector
from blemish.engines import Engine
from blemish.export import FORMATS, export_model
from blemish.export.runtimes import Exported
from blemish.images import decode_ahead, read_image
from results import Table, append, data_folder

MODELS: dict[str, str | Detector] = {
    "fre": "fre",
    "gaussian": "gaussian",
    "padim": "padim",
    "padim, pca": blemish.PaDiM(reduction="pca"),
}
IMAGES, TIMED = 200, 30


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=data_folder())
    parser.add_argument("--train", type=int, help="so many images to fit; all by default")
    parser.add_argument("--only", help="models whose name contains this; nothing is then appended")
    arguments = parser.parse_args()
    dataset = read_source(f"mtd:{arguments.data}/mtd")
    if arguments.train is not None:
        dataset = replace(dataset, train=[dataset.train[i] for i in evenly_spaced(len(dataset.train), arguments.train)])
    test = [dataset.test[index].path for index in evenly_spaced(len(dataset.test), IMAGES)]
    head = ["model", "format", "precision", "graph, MB", "scores, largest", "scores, mean", "maps, largest", "ms/image"]
    table = Table(head, 3)
    for name, detector in MODELS.items():
        if arguments.only and arguments.only not in name:
            continue
        model = blemish.fit(dataset, detector=detector, engine="openvino")
        geometry = model.recipe.geometry
        images = np.stack([*decode_ahead(lambda path, shape=geometry: read_image(path, shape), test)])  # type: ignore[misc]
        (expected,) = model.engine.run([images])
        table.row(name, "none", "single", "", "", "", "", f"{per_image(model.engine, images):.1f}")
        for form in FORMATS:
            for half in (False, True):
                with tempfile.TemporaryDirectory() as folder:
                    done = export_model(model, Path(folder) / "out", form, half=half)
                    exported = Exported(Path(folder) / "out", FORMATS[form])
                    (found,) = exported.run([images])
                    scores = np.abs(found[0] / expected[0] - 1)
                    maps = np.abs(found[1] - expected[1]).max((1, 2)) / np.abs(expected[1]).max((1, 2))
                    size = sum(
                        n for file, n in done.files.items() if file.startswith("model.") and file != "model.json"
                    )
                    figures = [f"{figure:.1e}" for figure in (scores.max(), scores.mean(), maps.max())]
                    speed = f"{per_image(exported, images):.1f}"
                    table.row(name, form, "half" if half else "single", f"{size / 1e6:.1f}", *figures, speed)
                    del exported
    if not arguments.only:
        append(
            "Exports",
            f"python benchmarks/export.py{f' --train {arguments.train}' if arguments.train else ''}",
            table.lines,
        )
    return 0


def per_image(engine: Engine, images: NDArray[np.uint8]) -> float:
    """Milliseconds for one image at a time, the quickest."""
    times = []
    for index in range(-3, TIMED):
        start = time.perf_counter()
        for _ in engine.run([images[index % len(images)][None]]):
            pass
        times.append(1e3 * (time.perf_counter() - start))
    return min(times[3:])


if __name__ == "__main__":
    sys.exit(main())
