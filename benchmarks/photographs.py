"""Large photographs in tiles: memory, time, and what is found, on photographs that are made up on the spot.

    python benchmarks/photographs.py

Fits detectors on 24 made-up photographs of the ground, 700×1000, in tiles of 256 that share 64, and predicts on one of
9,000×12,000 with 20 animals: the peak of the whole command, its seconds, and how many animals lie in a box. Draws
docs/pictures/animals.png, prints a table, and appends it to benchmarks/RESULTS.md.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from blemish.maps import Panel, counted, outlined, overlay, sheet
from blemish.model import Model
from results import HERE, Table, append

Box = tuple[int, int, int, int]
DETECTORS = ("padim", "fre", "gaussian", "vae-grf")


def main() -> int:
    rng = np.random.default_rng(0)
    table = Table(["detector", "fit s", "predict s", "predict peak MB", "animals in a box", "boxes"], 1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "ground").mkdir()
        for number in range(24):
            Image.fromarray(whole(ground(rng, 700, 1000))).save(root / "ground" / f"{number}.jpg", quality=92)
        shown = ground(rng, 700, 1000)
        populate(rng, shown, 3)
        Image.fromarray(whole(shown)).save(root / "shown.png")
        # One piece of ground that joins on to itself, nine by nine times: a larger one takes minutes to make.
        large = np.tile(ground(rng, 3000, 3000).astype(np.float32), (3, 4, 1))
        animals = populate(rng, large, 20)
        Image.fromarray(whole(large)).save(root / "large.jpg", quality=92)
        del large
        tiles = [Panel(whole(shown), "photograph")]
        for name in DETECTORS:
            model = root / name
            words = ["fit", root / "ground", "-o", model, "--detector", name, "--tile", 256, "--overlap", 64]
            fitted, _, _ = command(*words, "--set", "epochs=2") if name == "vae-grf" else command(*words)
            seconds, peak, printed = command("predict", model, root / "large.jpg", "--json")
            boxes = json.loads(printed)["boxes"]
            found = sum(any(holds(box, animal) for box in boxes) for animal in animals)
            table.row(name, f"{fitted:.1f}", f"{seconds:.1f}", f"{peak}", f"{found} of {len(animals)}", f"{len(boxes)}")
            loaded = Model.load(model)
            (prediction,) = loaded.predict(root / "shown.png")
            if prediction.map is None:
                raise RuntimeError(str(prediction.error))
            caption = f"{name}\n{counted(prediction.boxes)}, p = {prediction.p_value:.2g}"
            drawn = overlay(whole(shown), prediction.map, loaded.calibration.display)
            tiles.append(Panel(outlined(drawn, prediction.boxes), caption))
    Image.fromarray(sheet([tiles[:3], tiles[3:]], side=400)).save(HERE.parent / "docs" / "pictures" / "animals.png")
    append("Large photographs", "python benchmarks/photographs.py", table.lines)
    return 0


def ground(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Grass, more or less, that joins on to itself at its edges."""
    noise = sum(
        strength * sigma * ndimage.gaussian_filter(rng.normal(size=(height, width)), sigma, mode="wrap")
        for strength, sigma in ((18, 1), (14, 3), (10, 9))
    )
    return np.stack([noise * gain + level for gain, level in ((1, 105), (1.05, 120), (0.7, 70))], -1)


def populate(rng: np.random.Generator, pixels: np.ndarray, count: int) -> list[Box]:
    """Lays animals into the photograph, and says where."""
    rows, columns = np.mgrid[-20:21, -20:21]
    boxes = []
    for _ in range(count):
        row, column = (int(rng.integers(25, side - 25)) for side in pixels.shape[:2])
        angle, long, short = rng.uniform(0, np.pi), rng.uniform(9, 13), rng.uniform(4, 6)
        along = rows * np.cos(angle) + columns * np.sin(angle)
        aside = columns * np.cos(angle) - rows * np.sin(angle)
        body = (along / long) ** 2 + (aside / short) ** 2 < 1
        coat = rng.choice([[35, 28, 25], [215, 205, 190], [120, 60, 35]])
        pixels[row - 20 : row + 21, column - 20 : column + 21][body] = coat + rng.normal(0, 6, (int(body.sum()), 3))
        down, across = np.nonzero(body)
        top, left = row - 20 + int(down.min()), column - 20 + int(across.min())
        boxes.append((top, left, row - 19 + int(down.max()), column - 19 + int(across.max())))
    return boxes


def whole(pixels: np.ndarray) -> np.ndarray:
    return pixels.clip(0, 255).astype(np.uint8)


def holds(box: dict[str, int], animal: Box) -> bool:
    row, column = (animal[0] + animal[2]) / 2, (animal[1] + animal[3]) / 2
    return box["top"] <= row < box["bottom"] and box["left"] <= column < box["right"]


def command(*words: object) -> tuple[float, int, str]:
    """Seconds, peak in MB, and what it printed."""
    start = time.perf_counter()
    measured = (
        "import resource, subprocess, sys\n"
        "done = subprocess.run([sys.executable, '-m', 'blemish', *sys.argv[1:]], stdout=subprocess.PIPE, check=True)\n"
        "sys.stderr.write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024))\n"
        "sys.stdout.buffer.write(done.stdout)"
    )
    done = subprocess.run(
        [sys.executable, "-c", measured, *map(str, words)], capture_output=True, text=True, check=True
    )
    return time.perf_counter() - start, int(done.stderr.split()[-1].split("\n")[-1]), done.stdout


if __name__ == "__main__":
    sys.exit(main())
