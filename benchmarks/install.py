"""How much room an install takes: blemish in fresh environments, its base and what serves, package by package.

    python benchmarks/install.py [--extras serve,serve+camera] [--keep DIR] [--append]

Each environment is made by `python -m venv` without pip, and filled by pip from this checkout, so what is counted is
what a user gets, compiled Python files included. Sizes are blocks on the disk in MiB, as `du -sm` counts them. Prints
three tables: the environments, the packages of the largest, and the largest files of OpenVINO with what they are for.
Exits with 1 if the base or the base with `serve` is larger than `LIMIT`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path

from results import HERE, Table, append

LIMIT = 350
"""MiB that the base may take, and the base with `serve`."""

MIB = 1 << 20

SMALLEST = 0.5
"""MiB of a package that has a row of its own."""

UNUSED = {
    "intel_gpu": "runs on Intel's GPUs; not used",
    "intel_npu": "runs on Intel's NPUs; not used",
    "cache.json": "tuned kernels for GPUs; not used",
    "intel_cpu": "runs on CPUs; used",
    "ir_frontend": "reads saved graphs; used",
    "pytorch_frontend": "makes graphs of torch modules; used by a fit",
    "frontend": "reads another format; not used",
    "auto": "chooses among devices; not used",
    "hetero": "divides a graph among devices; not used",
    "libopenvino.so": "the core; used",
    "pyopenvino": "the binding to Python; used",
    "tbb": "threads; used",
    "hwloc": "threads; used",
    "_c.so": "the binding to C; not used",
}
"""What files of OpenVINO are for, by a part of the name; the first that is found counts."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--extras", default="serve", help="environments beside the base: extras joined by +, then commas"
    )
    parser.add_argument("--keep", type=Path, help="where the environments are made and stay")
    parser.add_argument("--append", action="store_true", help="append the tables to RESULTS.md")
    arguments = parser.parse_args()
    wanted = ["", *filter(None, arguments.extras.split(","))]
    with tempfile.TemporaryDirectory() as folder:
        root = arguments.keep or Path(folder)
        places = {extras: install(root, extras) for extras in wanted}
        found = {extras: packages(place) for extras, place in places.items()}
        whole = Table(["install", "packages", "MiB"], 1)
        for extras, sizes in found.items():
            whole.row(named(extras), str(len(sizes)), f"{size_of(places[extras]):.0f}")
        print()
        listed = Table(["package", *map(named, found)], 1)
        largest = max(found.values(), key=lambda sizes: sum(sizes.values()))
        small: Counter[str] = Counter()
        for name, size in largest.most_common():
            if size / MIB >= SMALLEST:
                listed.row(name, *(f"{sizes[name] / MIB:.1f}" if name in sizes else "–" for sizes in found.values()))
                continue
            for extras, sizes in found.items():
                small[extras] += sizes[name]
        listed.row("the others together", *(f"{small[extras] / MIB:.1f}" for extras in found))
        print()
        listing = Table(["file of OpenVINO", "for", "MiB"], 2)
        for path, size in openvino_files(places[""]):
            listing.row(path.name, meant(path.name), f"{size / MIB:.1f}")
        largest_size = max(size_of(place) for extras, place in places.items() if extras in ("", "serve"))
    if arguments.append:
        command = "python benchmarks/install.py"
        append("Size of an install", command, [*whole.lines, "", *listed.lines, "", *listing.lines])
    return int(largest_size > LIMIT)


def named(extras: str) -> str:
    return f"blemish[{extras.replace('+', ',')}]" if extras else "blemish"


def install(root: Path, extras: str) -> Path:
    """A new environment with blemish and these extras, and neither pip nor setuptools in it."""
    place = root / (extras or "base")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True)
    python = place / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "-qq", "--disable-pip-version-check"]
    subprocess.run([*pip, f"{HERE.parent}{named(extras).removeprefix('blemish')}"], check=True)
    return place


def packages(place: Path) -> Counter[str]:
    """Bytes on the disk of each package in an environment, its compiled Python included."""
    return Counter({found.metadata["Name"]: sum(map(disk, files(found))) for found in installed(place)})


def installed(place: Path) -> Iterator[Distribution]:
    (folder,) = place.glob("lib/python3*/site-packages") if os.name != "nt" else place.glob("Lib/site-packages")
    return iter(distributions(path=[str(folder)]))


def files(package: Distribution) -> set[Path]:
    return {Path(str(package.locate_file(file))).resolve() for file in package.files or ()}


def disk(file: Path) -> int:
    """Bytes that a file or a folder takes on the disk."""
    if not os.path.lexists(file):
        return 0
    status = file.lstat()
    return getattr(status, "st_blocks", -(-status.st_size // 512)) * 512


def size_of(place: Path) -> float:
    """MiB of a whole environment."""
    return sum(map(disk, [place, *place.rglob("*")])) / MIB


def openvino_files(place: Path) -> list[tuple[Path, int]]:
    """The twelve largest files of OpenVINO with their bytes."""
    (openvino,) = (found for found in installed(place) if found.metadata["Name"] == "openvino")
    return sorted(((file, disk(file)) for file in files(openvino)), key=lambda found: -found[1])[:12]


def meant(name: str) -> str:
    return next((use for part, use in UNUSED.items() if part in name), "")


if __name__ == "__main__":
    sys.exit(main())
