"""Pictures of the service's page for the documentation, in Debian's Chromium.

    python benchmarks/page.py

Fits a model on made-up flanges, serves it with another one that looks on, has images judged, and writes
docs/pictures/page.png and docs/pictures/page-phone.png.
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

import blemish
from results import HERE

PICTURES = HERE.parent / "docs" / "pictures"


def main() -> int:
    from playwright.sync_api import sync_playwright

    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        print("no chromium on this machine; apt-get install chromium", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        root = Path(folder)
        new = write_flanges(root)
        for name, detector in (("flanges", "padim"), ("flanges-fre", "fre")):
            blemish.fit(root / "good", detector=detector, size=192).save(root / f"{name}.blemish")
        with serving(root) as address:
            running = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
            wide = running.new_page(viewport={"width": 1440, "height": 900})
            wide.goto(address)
            send(wide, new[:-1])
            send(wide, new[-1:])
            save(wide, "page.png", 1374)
            small = running.new_page(viewport={"width": 360, "height": 780}, device_scale_factor=2)
            small.goto(address)
            send(small, new[-1:])
            save(small, "page-phone.png", 780)
            running.close()
    return 0


def send(page: Any, paths: list[Path]) -> None:
    """Has images judged and waits until the last one is shown."""
    page.locator("#model option").first.wait_for(state="attached")
    page.set_input_files("#files", [str(path) for path in paths])
    page.locator("#progress", has_text="judged").wait_for(state="hidden")
    page.locator("#source", has_text=paths[-1].name).wait_for()
    page.locator("#stage .heat").wait_for()
    page.locator("#recent-list li").nth(len(paths) - 1).locator("img[src]").wait_for()
    page.wait_for_timeout(1500)


def save(page: Any, name: str, height: int) -> None:
    """Writes the upper part of the page as a PNG of 256 colours, which is a third of the size."""
    clip = {"x": 0, "y": 0, "width": page.viewport_size["width"], "height": height}
    picture = Image.open(io.BytesIO(page.screenshot(full_page=True, clip=clip))).convert("RGB")
    few = picture.quantize(method=Image.Quantize.FASTOCTREE, dither=Image.Dither.FLOYDSTEINBERG)
    few.save(PICTURES / name, optimize=True)
    print(f"{PICTURES / name}: {(PICTURES / name).stat().st_size / 1e3:.0f} kB")


@contextmanager
def serving(root: Path) -> Iterator[str]:
    """Yields the address of a service of the models in a folder."""
    words = ["serve", root / "flanges.blemish", "--shadow", f"flanges={root / 'flanges-fre.blemish'}"]
    words += ["--port", "0", "--state", root / "state"]
    command = [sys.executable, "-m", "blemish", *map(str, words)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        yield next(found[0] for line in process.stderr or () if (found := re.search(r"http://[\w.:]+", line)))
        process.terminate()


def write_flanges(root: Path) -> list[Path]:
    """Writes good flanges, and new ones of which some are scratched; returns the paths of these, the last scratched."""
    rng = np.random.default_rng(1)
    for folder, count in (("good", 120), ("new", 50)):
        (root / folder).mkdir()
        for index in range(count):
            pixels = flange(rng, scratched=folder == "new" and index % 9 == 4)
            Image.fromarray(pixels).save(root / folder / f"part-{index:04d}.png")
    return sorted((root / "new").iterdir())


def flange(rng: np.random.Generator, size: int = 320, *, scratched: bool = False) -> NDArray[np.uint8]:
    """Returns a made-up turned flange with six holes, (size, size, 3)."""
    down, across = (axis / size - 0.5 + 0.004 * rng.standard_normal() for axis in np.mgrid[:size, :size])
    radius, angle = np.hypot(down, across), np.arctan2(down, across)

    def inside(distance: NDArray[Any], edge: float) -> NDArray[Any]:
        return np.asarray(1 / (1 + np.exp(np.clip((distance - edge) * size * 0.9, -50, 50))))

    def rim(distance: NDArray[Any], edge: float, pixels: float) -> NDArray[Any]:
        return np.asarray(np.exp(-(((distance - edge) * size / pixels) ** 2)))

    turned = np.interp(radius, np.linspace(0, 0.75, 260), ndimage.gaussian_filter1d(rng.standard_normal(260), 0.8))
    metal = 128 + 38 * (0.5 + 0.5 * np.cos(2 * (angle - 0.9))) ** 2 + 7 * turned + 10 * np.cos(angle - 2.2)
    metal += 34 * rim(radius, 0.255, 2.2) - 20 * inside(radius, 0.255)
    grey = 34 + (metal - 34) * inside(radius, 0.43) + 20 * rim(radius, 0.43, 1.8)
    turn = 0.26 + 0.015 * rng.standard_normal()
    holes = [(0.335 * np.sin(at), 0.335 * np.cos(at), 0.043) for at in turn + np.arange(6) * np.pi / 3]
    for row, column, edge in [*holes, (0.0, 0.0, 0.13)]:
        distance = np.hypot(down - row, across - column)
        grey += (25 - grey) * inside(distance, edge) + 25 * rim(distance, edge + 0.003, 1.7)
    if scratched:
        start, way = rng.uniform(0, 2 * np.pi), np.linspace(0, 1, 220)
        rows = 0.2 * np.sin(start) + 0.13 * way * np.sin(start + 1.1) + 0.012 * np.sin(5 * way)
        columns = 0.2 * np.cos(start) + 0.13 * way * np.cos(start + 1.1)
        line = np.zeros((size, size))
        line[((rows + 0.5) * size).astype(int), ((columns + 0.5) * size).astype(int)] = 1
        line = np.clip(ndimage.gaussian_filter(line, 1.3) * 6, 0, 1)
        grey += (25 - grey) * 0.85 * line + 55 * np.roll(line, (2, 2), (0, 1)) * (1 - line)
    grey = ndimage.gaussian_filter(grey, 0.6) + 2.2 * rng.standard_normal(grey.shape)
    return np.asarray(np.clip(grey[..., None] * [1.0, 1.0, 0.985], 0, 255), np.uint8)


if __name__ == "__main__":
    sys.exit(main())
