"""What the whitened components of each layer are worth: all of them, the best, and those without a border effect.

    python benchmarks/explain.py [--data DIR] [--pictures DIR]

EfficientNet-Lite0 at 256×256, detector `gaussian`, one layer at a time, on mvtec/hazelnut_reduced and mvtec/bottle. The
best 32 are chosen by the labels of the images they are judged on, so theirs is what a perfect choice would give, not
what to expect; components are left out for a border effect of 2 or more on the training images. Prints a table and
appends it to benchmarks/RESULTS.md. With --pictures, writes the heat maps that the documentation shows, without the
photographs under them.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from PIL import Image

import blemish
from blemish.components import Survey, prune, survey
from blemish.components.figures import choose, component_maps
from blemish.datasets import Dataset, read_source
from blemish.errors import SettingError
from blemish.evaluation import Evaluation, evaluate
from blemish.images import Pixels
from blemish.maps import Panel, heat_map, sheet
from results import Table, append, data_folder

SOURCES = ("mvtec/hazelnut_reduced", "mvtec/bottle")
LAYERS = (0, 1, 2, 3, 4)
BORDER = 2.0
BEST = 32
SHOWN = 3
"""The level whose pictures are written."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=data_folder())
    parser.add_argument("--pictures", type=Path)
    arguments = parser.parse_args()
    head = ["data", "layer", "grid", "components", "pixel AUROC", "AUPR", "AUPRO", "AUROC of all components, s"]
    table = Table(head, 4)
    for name in SOURCES:
        dataset = read_source(f"{arguments.data}/{name}", 0)
        for layer in LAYERS:
            model = blemish.fit(dataset, detector="gaussian", layers=[layer])
            (described,) = model.recipe.shapes
            grid = f"{described.height}×{described.width}"
            whole = evaluate(model, dataset)
            start = time.perf_counter()
            (seen,) = survey(model, dataset.test, masks=True)
            seen.auroc()
            seconds = f"{time.perf_counter() - start:.1f}"
            count = len(seen.counts) - 1
            table.row(name, f"level {layer}", grid, f"all {count}", *figures(whole), seconds)
            table.row(name, f"level {layer}", grid, *pruned(model, dataset, f"best {BEST}", keep_best=BEST), "")
            table.row(name, f"level {layer}", grid, *pruned(model, dataset, "border < 2", border=BORDER), "")
            if arguments.pictures and layer == SHOWN:
                file = arguments.pictures / f"{name.replace('/', '-')}.png"
                Image.fromarray(heat_maps(model, dataset, seen)).quantize(128).save(file, optimize=True)
    append("Whitened components", "python benchmarks/explain.py", table.lines)
    return 0


def heat_maps(model: blemish.Model, dataset: Dataset, seen: Survey) -> Pixels:
    """The three worst components on normal images, and the three best with the layer's map on anomalous ones."""
    indices = model.scoring.head.parts[0].components
    areas = seen.auroc()[:-1]
    order = sorted(range(len(areas)), key=lambda row: areas[row] or 0.0)
    rows = []
    anomalous = [sample for sample in dataset.test if sample.is_anomalous]
    for samples, columns in ((dataset.train, order[:3]), (anomalous, [*order[:-4:-1], -1])):
        (normal,) = survey(model, samples)
        limits = normal.percentile()
        chosen = choose(model, samples, 2)
        (maps,) = component_maps(model, chosen.images)
        for row in range(2):
            rows.append(
                [
                    Panel(
                        heat_map(maps[row, column], (0.0, float(limits[column]))),
                        ("sum of all" if column < 0 else f"component {indices[column]}")
                        + ("" if areas[column] is None or column < 0 else f"\nAUROC {100 * areas[column]:.1f} %"),
                    )
                    for column in columns
                ]
            )
    return sheet(rows, "above: normal images; below: anomalous ones", side=144)


def pruned(model: blemish.Model, dataset: Dataset, name: str, **way: float) -> list[str]:
    try:
        result = prune(model, dataset, **way)  # type: ignore[arg-type]
    except SettingError as error:
        return [f"{name}: {error}", "", "", ""]
    kept = result.model.provenance.learned["components"][0]
    return [f"{name}: {kept}", *figures(result.after)]


def figures(evaluation: Evaluation | None) -> list[str]:
    found = [evaluation.pixel[kind] for kind in ("auroc", "aupr", "aupro")] if evaluation else []
    return ["–" if figure is None else f"{100 * figure:.2f}" for figure in found]


if __name__ == "__main__":
    sys.exit(main())
