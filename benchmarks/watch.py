"""A watch of a folder: how soon is an image answered, and does memory stay level?

    python benchmarks/watch.py [--data DIR] [--seconds 120] [--rate 20] [--images 10000] [--within 360]

`fre` on 200 good magnetic tiles, at its defaults; `blemish watch --out` runs as a process of its own. Other tiles are
written into its folder, so many in a second, one write and one close each, as a camera's program does; the latency of
each is from the close to the line on standard output. Then many images, 64×64 pixels, are moved into the folder at once
and are judged as fast as they can be: an hour at 20 images in a second would be 72,000. Memory is what the process has
resident, sampled every quarter of a second; its spread is from the first tenth of a part on, relative to the median.
Ends early, and says so, when the time is over. Appends the table to benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from PIL import Image

import blemish
from blemish.datasets import read_source
from results import Table, append, data_folder

TILES = 200
SMALL = 64
PAGE = 4096
EVERY = 0.25


class Watched:
    """A watch in a process of its own: when each line came, and how much memory it had."""

    def __init__(self, model: Path, line: Path, out: Path) -> None:
        command = [sys.executable, "-m", "blemish", "watch", model, line, "--out", out, "--json"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.came: dict[str, float] = {}
        self.memory: list[float] = []
        self.threads = [threading.Thread(target=work, daemon=True) for work in (self._read, self._sample)]
        for thread in self.threads:
            thread.start()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            now = time.monotonic()
            self.came[json.loads(line)["path"]] = now

    def _sample(self) -> None:
        statm = Path(f"/proc/{self.process.pid}/statm")
        while self.process.poll() is None:
            self.memory.append(int(statm.read_text().split()[1]) * PAGE / 1e6)
            time.sleep(EVERY)

    def wait(self, count: int, end: float) -> bool:
        """Waits until so many images have a line. Returns whether that was before the end."""
        while len(self.came) < count:
            if self.process.poll() is not None:
                raise SystemExit("the watch ended by itself")
            if time.monotonic() > end:
                return False
            time.sleep(0.01)
        return True

    def level(self, since: int) -> str:
        """The median of the memory, and how far the lowest and highest are from it, after a first tenth."""
        values = np.array(self.memory[since + (len(self.memory) - since) // 10 :])
        middle = float(np.median(values))
        low, high = (100 * (float(found) / middle - 1) for found in (values.min(), values.max()))
        return f"{middle:.0f} ({low:+.1f} to {high:+.1f} %)"

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()
        for thread in self.threads:
            thread.join()


def at_a_rate(watched: Watched, tiles: list[Path], line: Path, rate: float, seconds: float, end: float) -> list[str]:
    """Cells of the table for images that come one by one."""
    contents = [tile.read_bytes() for tile in tiles]
    closed: dict[str, float] = {}
    since, start = len(watched.memory), time.monotonic()
    while (number := len(closed)) < rate * seconds:
        time.sleep(max(0.0, start + number / rate - time.monotonic()))
        name = f"tile{number:06d}{tiles[number % len(tiles)].suffix}"
        with (line / name).open("wb") as file:
            file.write(contents[number % len(tiles)])
        closed[name] = time.monotonic()
    watched.wait(len(closed) + 1, end)
    late = [1000 * (watched.came[name] - closed[name]) for name in closed if name in watched.came]
    cells = [f"{np.percentile(late, share):.0f}" for share in (50, 95, 99, 100)]
    return [f"{rate:g} in a second", str(len(late)), *cells, f"{len(closed) / seconds:.1f}", watched.level(since)]


def at_once(watched: Watched, line: Path, beside: Path, count: int, end: float) -> list[str]:
    """Cells of the table for images that are all there."""
    ready = beside / "lot"
    ready.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        Image.fromarray(rng.integers(0, 256, (SMALL, SMALL), np.uint8)).save(
            ready / f"{number:06d}.png", compress_level=1
        )
    before, since, start = len(watched.came), len(watched.memory), time.monotonic()
    ready.rename(line / "lot")
    watched.wait(before + count, end)
    done = len(watched.came) - before
    seconds = time.monotonic() - start
    return ["as fast as possible", str(done), "", "", "", "", f"{done / seconds:.0f}", watched.level(since)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=data_folder())
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--rate", type=float, default=20)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--within", type=float, default=360, help="seconds for all, at most")
    parser.add_argument("--no-append", action="store_true")
    options = parser.parse_args()
    end = time.monotonic() + options.within
    good = [sample.path for sample in read_source(f"mtd:{options.data}/mtd").train]
    beside = Path(tempfile.mkdtemp(prefix="watched-"))
    line = beside / "line"
    line.mkdir()
    model = beside / "tiles.blemish"
    blemish.fit(_folder(good[:TILES], beside / "good")).save(model)
    shutil.copy(good[TILES], line / f"first{good[TILES].suffix}")
    watched = Watched(model, line, beside / "out")
    watched.wait(1, end)
    table = Table(["images come", "answered", "p50 ms", "p95 ms", "p99 ms", "worst ms", "images/s", "memory MB"], 1)
    table.row(*at_a_rate(watched, good[TILES + 1 :], line, options.rate, options.seconds, end))
    table.row(*at_once(watched, line, beside, options.images, end))
    watched.close()
    shutil.rmtree(beside)
    if not options.no_append:
        append("Watching a folder", "python benchmarks/watch.py " + " ".join(sys.argv[1:]), table.lines)


def _folder(paths: list[Path], folder: Path) -> str:
    """The images in a folder of their own."""
    folder.mkdir()
    for path in paths:
        shutil.copy(path, folder / path.name)
    return str(folder)


if __name__ == "__main__":
    main()
