"""The papers' tables and figures as far as the data and weights at hand allow, with EfficientNet-Lite0 for the network.

    python benchmarks/papers.py [--data DIR] [--results FILE] [--only NAME]

Runs `blemish bench` on bottle, hazelnut (a part of it), MTD, solar cells and Livestock, about an hour and a half on two
cores; a run that was cut short goes on with what FILE lacks. Prints each table, and how its rows differ on the same
images, appends them to benchmarks/RESULTS.md, and draws the figures into docs/pictures.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from blemish.bench.differences import make_differences
from blemish.bench.names import find_protocol
from blemish.bench.protocol import Drawing
from blemish.bench.rows import make_table
from blemish.bench.run import Options, run
from results import HERE, append, data_folder

LITE = "efficientnet_lite0"
PICTURES = HERE.parent / "docs" / "pictures"
RANDOM = ("Rd 100", "PCA 100", "all (448)")
"""Of Lite0's 176 channels; 200 are more than there are."""


@dataclass(frozen=True)
class Run:
    """A protocol, the data below the data folder, what is changed, and the pictures to keep: file → name in docs."""

    protocol: str
    source: str
    options: Options
    pictures: dict[str, str] = field(default_factory=dict)
    differences: bool = False


RUNS = (
    Run("mvg-figures", "{data}/mvtec", Options(backbone=LITE)),
    Run("padim-table-1", "{data}/mvtec", Options(backbone=LITE), differences=True),
    Run("padim-table-2", "{data}/mvtec", Options(["bottle"], RANDOM, backbone=LITE)),
    Run("padim-table-2", "mtd:{data}/mtd", Options(entries=RANDOM, backbone=LITE)),
    Run(
        "hfr-table-2",
        "{data}/mnist/mnist.npz",
        Options(detector="hfr", size=96, images=2000, settings={"width": 1.0, "epochs": 12}),
    ),
    Run("hfr-table-3", "{data}/mvtec", Options(entries=["HFR (ResNet-18)"], backbone=LITE)),
    Run("fre-table-2", "mtd:{data}/mtd", Options(backbone=LITE)),
    Run("fre-table-2", "mtd:{data}/mtd", Options(preset="fre-lite0-1l")),
    Run("fre-table-3", "elpv:mono", Options(preset="fre-lite0-1l")),
    Run("fre-table-6", "{data}/mvtec", Options(backbone=LITE), differences=True),
    Run("fre-table-8", "{data}/mvtec", Options(backbone=LITE)),
    Run("fre-table-9", "{data}/mvtec/bottle", Options(backbone=LITE)),
    Run(
        "fre-figure-2-shares",
        "{data}/mvtec",
        Options(backbone=LITE),
        {
            "figure-2-detection.png": "fre-shares-detection.png",
            "figure-2-segmentation.png": "fre-shares-segmentation.png",
        },
    ),
    Run(
        "fre-figure-2-forms",
        "{data}/mvtec",
        Options(
            ["bottle"],
            ("FRE-PCA", *(f"{form} {epochs}" for form in ("FRE-AE", "FRE-AEt") for epochs in (100, 200, 300))),
            backbone=LITE,
        ),
    ),
    Run(
        "vae-grf-table-3",
        "livestock:{data}/livestock",
        Options(
            entries=[f"{kind}, {map}" for kind in ("VAE-GRF", "VAE") for map in ("SM", "MAD", "MAD·SM")] + ["VAE, l2"],
            settings={"epochs": 3},
        ),
        differences=True,
    ),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=data_folder())
    parser.add_argument("--results", type=Path, default=Path("papers.jsonl"))
    parser.add_argument("--only", help="the name of a protocol")
    arguments = parser.parse_args()
    for name in dict.fromkeys(chosen.protocol for chosen in RUNS):
        if arguments.only not in {None, name}:
            continue
        protocol, chosen = find_protocol(name), [each for each in RUNS if each.protocol == name]
        for each in chosen:
            results = run(protocol, each.source.format(data=arguments.data), arguments.results, each.options)
        tables = [make_table(protocol, results, intervals=True)]
        tables += [make_differences(protocol, results)] if any(each.differences for each in chosen) else []
        lines = "\n".join(table.written("markdown") for table in tables).splitlines()
        print("\n".join(lines), flush=True)
        append(protocol.title, f"python benchmarks/papers.py --only {name}", lines)
        pictures = {file: kept for each in chosen for file, kept in each.pictures.items()}
        if pictures and protocol.draw:
            with tempfile.TemporaryDirectory() as folder:
                protocol.draw(Drawing(results, Path(folder)))
                for file, kept in pictures.items():
                    Image.open(Path(folder) / file).save(PICTURES / kept)
    return 0


if __name__ == "__main__":
    sys.exit(main())
