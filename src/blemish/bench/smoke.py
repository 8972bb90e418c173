"""Runs every protocol on a few made-up images, to see that it works; the figures mean nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from blemish.backbones import DEFAULT
from blemish.bench.measure import detector_of
from blemish.bench.names import PROTOCOLS
from blemish.bench.options import Options
from blemish.bench.protocol import Drawing, Protocol
from blemish.bench.results import Result
from blemish.bench.rows import make_table
from blemish.bench.run import run
from blemish.bench.sources import all_classes, scenes
from blemish.errors import BlemishError
from blemish.images import Pixels
from blemish.progress import Progress
from blemish.report.table import FORMATS
from blemish.storage import Scratch

SMOKE = "smoke"
SIDE = 96
CATEGORY = "hazelnut"  # one that every table on MVTec AD has
TRAIN, TEST = 12, 4
"""Images to fit, and to test of each kind."""

SHORT = {"epochs": 1, "drawn": 8, "patience": None, "batch": 8, "dims": 8, "neighbours": 3, "directions": 2}
"""Settings that make every fit short."""


@dataclass(frozen=True)
class Smoked:
    """The outcome of one protocol.

    Attributes:
        name: of the protocol.
        results: all of them.
        pictures: how many pictures its figure has.
        faults: what went wrong; empty if all went well.
    """

    name: str
    results: int
    pictures: int
    faults: tuple[str, ...]


def smoke(
    output: Path, *, progress: Progress | None = None, announce: Callable[[Result | str], None] | None = None
) -> Iterator[Smoked]:
    """Yields the outcome of each protocol: of its run on made-up images, its table in each format, and its figure.

    Args:
        output: the file of results.
        progress: called with the stage, and how many images of how many are done.
        announce: called with what is measured next, and with each result.
    """
    with Scratch() as scratch:
        roots: dict[object, tuple[Path, str]] = {
            all_classes: (write_digits(scratch.path / "digits"), "MNIST/0"),
            scenes: (write_scene(scratch.path / "scenes"), "01"),
        }
        trees = write_tree(scratch.path / "trees"), CATEGORY
        for protocol in PROTOCOLS.values():
            root, category = roots.get(protocol.sources, trees)
            options = Options(
                categories=(category,),
                seeds=2 if protocol.name == "padim-table-2" else 1,
                backbone=DEFAULT,
                size=SIDE,
                settings=_short(protocol, category),
                engine="torch",  # compiling graphs would take longer than running them
                models=scratch.path / "models" if protocol.draw else None,
            )
            results = run(protocol, str(root), output, options, progress=progress, announce=announce)
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


def _short(protocol: Protocol, category: str) -> dict[str, Any]:
    """Returns those settings of `SHORT` that a detector of the protocol has."""
    from blemish.detectors import DETECTORS

    detectors = {detector_of(entry.on(category).fit) for entry in protocol.entries}
    known = {name for detector in detectors for name in DETECTORS[detector].setting_names()}
    return {name: value for name, value in SHORT.items() if name in known}


def write_tree(root: Path) -> Path:
    """Writes a tree of made-up grey plates, good and scratched, with masks; returns the folder that holds the tree."""
    rng, folder = np.random.default_rng(0), root / CATEGORY
    for place, count in (("train/good", TRAIN), ("test/good", TEST), ("test/scratch", TEST)):
        for number in range(count):
            image, mask = _plate(rng, place == "test/scratch")
            _save(image, folder / place / f"{number:03d}.png")
            if mask.any():
                _save(mask, folder / "ground_truth" / "scratch" / f"{number:03d}_mask.png")
    return root


def write_scene(root: Path) -> Path:
    """Writes frames of one scene, laid out as those of ShanghaiTech Campus, and returns the folder."""
    rng, masks = np.random.default_rng(2), []
    for number in range(TRAIN):
        _save(_plate(rng, False)[0], root / "training" / "frames" / "01_001" / f"{number:03d}.jpg")
    for number in range(2 * TEST):
        image, mask = _plate(rng, number >= TEST)
        _save(image, root / "testing" / "frames" / "01_0014" / f"{number:03d}.jpg")
        masks.append(mask > 0)
    for name, array in (("test_pixel_mask", np.stack(masks)), ("test_frame_mask", np.any(masks, (1, 2)))):
        (root / "testing" / name).mkdir()
        np.save(root / "testing" / name / "01_0014.npy", array)
    return root


def write_digits(root: Path) -> Path:
    """Writes a made-up data set of ten classes, laid out as MNIST is, and returns its folder."""
    rng = np.random.default_rng(1)
    arrays: dict[str, Any] = {}
    for part, count in (("train", TRAIN), ("test", TEST)):
        labels = np.repeat(np.arange(10, dtype=np.uint8), count)
        images = rng.integers(0, 60, (len(labels), 28, 28), dtype=np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[2 + 2 * int(label) : 6 + 2 * int(label), 4:24] = 220
        arrays |= {f"x_{part}": images, f"y_{part}": labels}
    root.mkdir()
    np.savez(root / "mnist.npz", **arrays)
    return root


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
