"""Peak memory and time of a fit against the number of images.

    python benchmarks/scale.py [--data DIR] [--only NAME] [--counts 761,7610,76100]

Each fit is a process of its own over the training images of MTD, each again and again with a small change, since the
same picture counts once; EfficientNet-Lite0 at 256×256 and the defaults, and FRE on ResNet-50's second layer (features
of 524,288 numbers; random weights, for neither memory nor time depends on them). Memory is the largest resident set,
and what of it is above the same process after it has imported everything and compiled the backbone. Prints a table and
appends it to benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from distinct import write_distinct
from results import Table, append, data_folder

ROWS = {
    "gaussian": ({"detector": "gaussian"}, [761, 7610, 76100]),
    "padim": ({"detector": "padim"}, [761, 7610, 76100]),
    "fre": ({"detector": "fre"}, [761, 7610, 76100]),
    "fre, ResNet-50 layer2": ({"detector": "fre", "backbone": "resnet50", "layers": ["layer2"]}, [240, 5000]),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=data_folder())
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--counts", help="other numbers of images")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(fit(arguments.data, **json.loads(arguments.one))))
        return 0
    table = Table(["detector", "images", "fit s", "ms/image", "peak MB", "above import and compile, MB"], 1)
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "resnet50.safetensors"
        save_random("resnet50", weights)
        chosen = {name: row for name, row in ROWS.items() if arguments.only in name}
        asked_counts = [int(count) for count in arguments.counts.split(",")] if arguments.counts else None
        most = max(count for _, counts in chosen.values() for count in asked_counts or counts)
        images = write_distinct(Path(folder) / "images", arguments.data, most)
        for name, (options, counts) in chosen.items():
            for count in asked_counts or counts:
                asked = {**options, "weights": str(weights)} if "backbone" in options else options
                one = json.dumps({"options": asked, "count": count})
                command = [sys.executable, __file__, "--data", str(images), "--one", one]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                seconds, peak, above = json.loads(done.stdout)
                table.row(name, str(count), f"{seconds:.1f}", f"{1e3 * seconds / count:.2f}", f"{peak}", f"{above}")
    said = " ".join(["python benchmarks/scale.py", *(f"'{word}'" if " " in word else word for word in sys.argv[1:])])
    append("Memory and time against the number of images", said, table.lines)
    return 0


def fit(data: str, options: dict[str, Any], count: int) -> tuple[float, int, int]:
    """Seconds, and megabytes at the peak: all, and above those of a process that has the backbone ready."""
    import blemish
    from blemish.datasets import read_source

    dataset = read_source(data)
    few = dataclasses.replace(dataset, train=dataset.train[:25])
    blemish.fit(few, **{**options, "detector": "gaussian"})  # imports, converts and compiles; its statistics are small
    before = peak()
    start = time.perf_counter()
    blemish.fit(dataclasses.replace(dataset, train=dataset.train[:count]), **options)
    seconds = time.perf_counter() - start
    return seconds, peak(), peak() - before


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def save_random(name: str, path: Path) -> None:
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    save_file(timm.create_model(name).state_dict(), path)


if __name__ == "__main__":
    sys.exit(main())
