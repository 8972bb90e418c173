"""Speed of this checkout against that of an earlier one, in turn, on the same images in the same run.

    python benchmarks/against.py --before CHECKOUT [--data DIR] [--rounds 5]

Each round starts a process for each checkout. It fits every closed-form detector that both have on MTD, once to warm up
and once timed, and predicts the test part. Prints medians and the median of the rounds' ratios, and appends the table
to benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

from results import HERE, Table, append, data_folder

DETECTORS = ("fre", "padim", "gaussian")

PROGRAM = """
import json, sys, time
import blemish
from blemish.datasets import read_source
dataset, found = read_source(f"mtd:{sys.argv[1]}/mtd", 0), {}
for detector in sys.argv[2].split(","):
    blemish.fit(dataset, detector=detector)
    start = time.perf_counter()
    model = blemish.fit(dataset, detector=detector)
    fitted = time.perf_counter()
    count = sum(1 for _ in model.predict([sample.path for sample in dataset.test]))
    found[detector] = [fitted - start, (time.perf_counter() - fitted) / count]
print(json.dumps(found))
"""


def timed(checkout: Path, data: str) -> dict[str, list[float]]:
    """Seconds of a fit, and of a prediction, by detector."""
    environment = {**os.environ, "PYTHONPATH": str(checkout / "src")}
    command = [sys.executable, "-c", PROGRAM, data, ",".join(DETECTORS)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found: dict[str, list[float]] = json.loads(done.stdout)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="a checkout of an earlier commit")
    parser.add_argument("--data", default=data_folder())
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    rounds = []
    for number in range(given.rounds):
        order = [given.before.absolute(), HERE.parent]
        both = {checkout: timed(checkout, given.data) for checkout in (order if number % 2 else order[::-1])}
        rounds.append((both[order[0]], both[order[1]]))
    table = Table(["detector", "fit before, s", "now", "ratio", "predict before, ms/image", "now", "ratio"], 1)
    for detector in DETECTORS:
        cells = []
        for stage, scale, form in ((0, 1, ".2f"), (1, 1000, ".2f")):
            before, now = ([one[side][detector][stage] for one in rounds] for side in (0, 1))
            ratio = median(new / old for old, new in zip(before, now, strict=True))
            cells += [f"{scale * median(before):{form}}", f"{scale * median(now):{form}}", f"{ratio:.2f}"]
        table.row(detector, *cells)
    append("Speed before and after", "python benchmarks/against.py --before CHECKOUT", table.lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
