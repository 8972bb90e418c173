"""ELPV: 2,624 solar cells by electroluminescence (Buerhop-Lutz et al. 2018), from the `elpv-dataset` package."""

from __future__ import annotations

import csv
from importlib.util import find_spec
from pathlib import Path

from blemish.datasets.sample import Dataset, Sample, split_good
from blemish.errors import MissingExtraError, SourceError, install


def read_elpv(options: str = "", seed: int = 0) -> Dataset:
    """Returns 80 % of the good cells to fit on; the rest and the defective ones test. There are no masks.

    Args:
        options: `mono`, `poly`, `doubtful`, joined by commas; both types without one of them. The experts gave each
            cell a probability of defect: 0 is good, 1 is defective. Those at 1/3 and 2/3 are left out, or with
            `doubtful` tested as good and defective.
        seed: decides the split.

    Raises:
        MissingExtraError: the package is not installed.
        SourceError: another option, or a package without its images.
    """
    wanted = {option for option in options.split(",") if option}
    unknown = wanted - {"mono", "poly", "doubtful"}
    if unknown:
        raise SourceError(f"elpv:{options}: {sorted(unknown)[0]!r} is not known; give mono, poly, doubtful, or several")
    types = wanted & {"mono", "poly"} or {"mono", "poly"}
    package = find_spec("elpv_dataset")
    if package is None or package.origin is None:
        raise MissingExtraError(f"elpv needs the package elpv-dataset; {install('demo')}")
    data = Path(package.origin).parent / "data"
    by_probability: dict[int, list[Path]] = {0: [], 1: [], 2: [], 3: []}
    try:
        with (data / "labels.csv").open(newline="") as file:
            for name, probability, kind in csv.reader(
                (" ".join(line.split()) for line in file if line.strip()), delimiter=" "
            ):
                if kind in types:
                    by_probability[round(3 * float(probability))].append(data / name)
    except (OSError, ValueError, KeyError) as error:
        raise SourceError(f"{data}: the labels cannot be read ({error}); install elpv-dataset again") from None
    train, held = split_good(sorted(by_probability[0]), seed)
    doubtful = "doubtful" in wanted
    test = [Sample(image) for image in held + (sorted(by_probability[1]) if doubtful else [])]
    test += [Sample(image, "defective") for image in sorted(by_probability[3])]
    test += [Sample(image, "probably defective") for image in sorted(by_probability[2]) if doubtful]
    name = f"elpv:{options}" if options else "elpv"
    return Dataset("ELPV solar cells", name, [Sample(image) for image in train], test)
