"""How right the time is that `fit` tells before it starts: each case is a command as a user types it.

    python benchmarks/estimates.py [--data DIR] [--cases N]

Prints for each case the estimate, the time the command took, and their ratio; then the share within 30 %. On a quiet
machine with 2 cores all cases take less than 10 minutes.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WITHIN = 0.3

CASES = [
    ("bottle", "--detector gaussian"),
    ("bottle", ""),
    ("bottle", "--detector padim"),
    ("bottle", "--detector padim --size 128"),
    ("bottle", "--detector spade --size 128"),
    ("bottle", "--quality fast"),
    ("bottle", "--copies 0"),
    ("hazelnut", ""),
    ("hazelnut", "--detector gaussian"),
    ("hazelnut", "--detector padim"),
    ("hazelnut", "--quality fast"),
    ("hazelnut", "--size 128 --copies 0"),
    ("mtd", ""),
    ("mtd", "--detector gaussian"),
    ("mtd", "--detector padim --size 128"),
    ("mtd", "--size 128"),
    ("mnist", "--size 64 --copies 0"),
    ("mnist", "--size 64 --detector gaussian"),
    ("mnist", "--size 64 --detector padim"),
    ("livestock", "--detector gaussian"),
    ("livestock", "--size 128 --detector gaussian"),
    ("livestock", "--tile 128 --detector gaussian"),
    ("photographs", "--tile 128"),
    ("photographs", "--tile 128 --detector padim"),
]
"""Source and options. `photographs` are the first 40 of livestock, which are cut into tiles."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("BLEMISH_DATA", "../shared/data")))
    parser.add_argument("--cases", type=int, default=len(CASES), help="only the first so many")
    arguments = parser.parse_args()
    right = done = 0
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        sources = _sources(arguments.data, Path(folder))
        for name, words in CASES[: arguments.cases]:
            estimate, taken = _timed([sources[name], *words.split()], Path(folder) / "model")
            ratio = estimate / taken
            is_right = abs(ratio - 1) <= WITHIN
            right, done = right + is_right, done + 1
            print(
                f"{name:12} {words:36} {estimate:6.0f} s {taken:7.1f} s  {ratio:5.2f}{'' if is_right else '  !'}",
                flush=True,
            )
    print(f"{right} of {done} estimates are within {100 * WITHIN:.0f} % ({time.perf_counter() - begun:.0f} s)")


def _sources(data: Path, folder: Path) -> dict[str, str]:
    """Returns the sources by name; photographs are linked into a folder of their own."""
    few = folder / "photographs"
    few.mkdir()
    for path in sorted((data / "livestock" / "Train").glob("*.jpg"))[:40]:
        (few / path.name).symlink_to(path.resolve())
    return {
        "bottle": str(data / "mvtec" / "bottle"),
        "hazelnut": str(data / "mvtec" / "hazelnut_reduced"),
        "mtd": str(data / "mtd"),
        "mnist": f"one_class:{data / 'mnist' / 'mnist.npz'}:8",
        "livestock": f"livestock:{data / 'livestock'}",
        "photographs": str(few),
    }


def _timed(words: list[str], model: Path) -> tuple[float, float]:
    """Returns the seconds that the command told and those that it took."""
    command = [sys.executable, "-m", "blemish", "fit", *words, "-o", str(model)]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    taken = time.perf_counter() - start
    told = re.search(r"^about ([\d,]+) s", done.stderr, re.MULTILINE)
    if done.returncode or told is None:
        raise SystemExit(f"{' '.join(command)}: {done.stderr}")
    shutil.rmtree(model)
    return float(told[1].replace(",", "")), taken


if __name__ == "__main__":
    main()
