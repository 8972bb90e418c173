"""A page in Debian's Chromium, watched: an error on its console or a request that leaves it fails the test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

FLAGS = ["--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"]


@contextmanager
def open_page(path: Path, width: int = 1200, height: int = 900) -> Iterator[Any]:
    """A page of Playwright's; skips where no browser is installed."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium on this machine; apt-get install chromium")
    from playwright.sync_api import sync_playwright

    folder = path.parent.as_uri() + "/"
    trouble: list[str] = []
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=browser, args=[*FLAGS, "--no-sandbox"])
        page = running.new_page(viewport={"width": width, "height": height})
        page.on("console", lambda message: trouble.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on(
            "request",
            lambda request: (
                None if request.url.startswith((folder, "data:")) else trouble.append(f"request: {request.url}")
            ),
        )
        page.goto(path.as_uri())
        yield page
        running.close()
    assert not trouble
