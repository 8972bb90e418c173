"""The first days of an engineer, a biologist and a researcher, as in `docs/first-day`: what is printed, and the time.

    python benchmarks/first_days.py [--data DIR] [--only engineer] [--keep DIR] [--append]

Every command of a page is run as a process of its own, in a new folder with the images that the page tells. Between
two commands a person reviews the images; here that is done by their masks, and not counted. Converted backbones are
not kept from before.
"""

from __future__ import annotations

import argparse
import os
import resource
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from results import Table, append, data_folder

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from first_day_pages import Truth, commands, review, write_bottles, write_photographs


def prepare(person: str, data: Path) -> tuple[Truth, str]:
    """Returns the masks, and the folder of results that the person reviews."""
    if person == "engineer":
        return write_bottles(data, Path("bottles"), 120, 40, 40), "results"
    if person == "biologist":
        return write_photographs(data, Path(), 101, 4), "found"
    Path("mvtec").mkdir()
    Path("mvtec/bottle").symlink_to(data / "mvtec" / "bottle")
    return {}, ""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=Path(data_folder()))
    parser.add_argument("--only", choices=("engineer", "biologist", "researcher"))
    parser.add_argument("--keep", type=Path, help="a new folder for what is written")
    parser.add_argument("--append", action="store_true")
    options = parser.parse_args()
    data = options.data.resolve()
    lines: list[tuple[str, str, float, float]] = []
    for person in [options.only] if options.only else ("engineer", "biologist", "researcher"):
        with tempfile.TemporaryDirectory(prefix="blemish-first-day-") as folder:
            os.chdir(folder)
            os.environ["BLEMISH_CACHE"] = f"{folder}/cache"
            truth, results = prepare(person, data)
            for kind, code in commands(f"{person}.md"):
                if code.startswith("blemish review"):
                    review(Path(results, "review.html"), truth)
                words = ["-c", code] if kind == "python" else words_of(code)
                print(f"\n$ {code}", flush=True)
                start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
                subprocess.run([sys.executable, *words], check=True)
                took, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
                busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
                lines.append((person, "Python" if kind == "python" else code, took, busy))
            if options.keep:
                shutil.copytree(folder, options.keep / person, symlinks=True)
            os.chdir("/")
    print()
    table = Table(("who", "command", "seconds", "of processor time"), texts=2)
    for person, code, took, busy in lines:
        table.row(person, f"`{code}`" if code != "Python" else code, f"{took:.1f}", f"{busy:.1f}")
    for person in dict.fromkeys(line[0] for line in lines):
        own = [line for line in lines if line[0] == person]
        table.row(person, "all", f"{sum(line[2] for line in own):.1f}", f"{sum(line[3] for line in own):.1f}")
    if options.append:
        append("First days", "python benchmarks/first_days.py", table.lines)


def words_of(line: str) -> list[str]:
    """The words of a command for this interpreter."""
    name, *words = shlex.split(line, comments=True)
    return ["-m", "blemish", *words] if name == "blemish" else words


if __name__ == "__main__":
    main()
