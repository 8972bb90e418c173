"""Picture of the review page for the documentation, in Debian's Chromium.

    python benchmarks/review.py

Fits a model on made-up flanges, predicts others, opens the page, and writes docs/pictures/review.png.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import blemish
from blemish.results import write_results
from page import save, write_flanges


def main() -> int:
    from playwright.sync_api import sync_playwright

    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        print("no chromium on this machine; apt-get install chromium", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        root = Path(folder)
        new = write_flanges(root)
        model = blemish.fit(root / "good", detector="padim", size=192)
        sources = [str(path) for path in new]
        list(write_results(model, model.predict(sources), root / "out", "none", sources=sources, review=True))
        running = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        page = running.new_page(viewport={"width": 1200, "height": 860})
        page.goto((root / "out" / "review.html").as_uri())
        page.keyboard.press("a")
        page.wait_for_timeout(500)
        save(page, "review.png", 860)
        running.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
