"""Runs every protocol on a few made-up images, to see that each of them works; the figures mean nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from blemish.backbones import DEFAULT
from blemish.bench.names import PROTOCOLS
from blemish.bench.protocol import Drawing
from blemish.bench.results import Result
from blemish.bench.run import Options, run
from blemish.bench.sources import all_classes
from blemish.bench.table import FORMATS, make_table
from blemish.errors import BlemishError
from blemish.images import Pixels
from blemish.progress import Progress
from blemish.storage import Scratch

SMOKE = "smoke"
SIDE = 96
TRAIN, TEST = 24, 4
"""Images to fit, and to test of each kind."""

SHORT = {"epochs": 1, "drawn": 8, "patience": None, "batch": 8, "dims": 8, "neighbours": 3, "directions": 2}
"""Settings that make every fit short."""


@dataclass(frozen=True)
class Smoked:
    """How one protocol went.

    Attributes:
        name: of the protocol.
        results: all of them.
        pictures: how many its figure has.
        faults: what went wrong; empty if all went well.
    """

    name: str
    results: int
    pictures: int
    faults: tuple[str, ...]


def smoke(
    output: Path, *, progress: Progress | None = None, announce: Callable[[Result | str], None] | None = None
) -> Iterator[Smoked]:
    """Yields for each protocol how it went: its run on made-up images, its table in each format, and its figure.

    Args:
        output: the file of results.
        progress: called with the stage, and how many images of how many are done.
        announce: called with what is measured next, and with each result.
    """
    with Scratch() as scratch:
        trees, digits = scratch.path / "trees", scratch.path / "digits"
        write_tree(trees / "bottle")
        write_digits(digits / "mnist.npz")
        for protocol in PROTOCOLS.values():
            of_classes = protocol.sources is all_classes
            options = Options(
                categories=("MNIST/0",) if of_classes else ("bottle",),
                seeds=2,
                backbone=DEFAULT,
                size=SIDE,
                settings=SHORT,
                models=scratch.path / "models" if protocol.draw else None,
            )
            root = str(digits if of_classes else trees)
            results = run(protocol, root, output, options, progress=progress, announce=announce)
            faults = [f"{result.entry}: {result.absent}" for result in results if result.absent]
            pictures: list[str] = []
            try:
                for form in FORMATS:
                    make_table(protocol, results).written(form)
                if protocol.draw:
                    folder = scratch.path / protocol.name
                    folder.mkdir()
                    pictures = protocol.draw(Drawing(results, folder))
            except BlemishError as error:
                faults.append(str(error))
            yield Smoked(protocol.name, len(results), len(pictures), tuple(faults))


def write_tree(root: Path) -> None:
    """Writes a tree of made-up grey plates, good ones and scratched ones with masks."""
    rng = np.random.default_rng(0)
    for folder, count, scratched in (
        ("train/good", TRAIN, False),
        ("test/good", TEST, False),
        ("test/scratch", TEST, True),
    ):
        for number in range(count):
            image, mask = _plate(rng, scratched)
            _save(image, root / folder / f"{number:03d}.png")
            if scratched:
                _save(mask, root / "ground_truth" / "scratch" / f"{number:03d}_mask.png")


def write_digits(path: Path) -> None:
    """Writes a made-up data set of ten classes, laid out as MNIST is."""
    rng = np.random.default_rng(1)
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {}
    for part, count in (("train", TRAIN), ("test", TEST)):
        labels = np.repeat(np.arange(10, dtype=np.uint8), count)
        images = rng.integers(0, 60, (len(labels), 28, 28), dtype=np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[2 + 2 * int(label) : 6 + 2 * int(label), 4:24] = 220
        arrays |= {f"x_{part}": images, f"y_{part}": labels}
    np.savez(path, **arrays)


def _plate(rng: np.random.Generator, scratched: bool) -> tuple[Pixels, Pixels]:
    grey = 120 + 20 * np.sin(np.arange(SIDE) / 5)[:, None] + rng.normal(0, 6, (SIDE, SIDE))
    mask = np.zeros((SIDE, SIDE), np.uint8)
    if scratched:
        row, column = rng.integers(8, SIDE - 24, 2)
        mask[row : row + 4, column : column + 16] = 255
        grey[mask > 0] = 230
    return np.repeat(grey.clip(0, 255).astype(np.uint8)[..., None], 3, 2), mask


def _save(pixels: Pixels, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
