"""Pages in Debian's Chromium, watched: an error on a console or a request that leaves them fails the test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

FLAGS = ["--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"]


@contextmanager
def chromium(*flags: str) -> Iterator[Any]:
    """A browser of Playwright's; skips where none is installed."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium on this machine; apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=browser, args=[*FLAGS, "--no-sandbox", *flags])
        yield running
        running.close()


@contextmanager
def watched(
    running: Any, address: str, allowed: tuple[str, ...] = (), expected: str = "", **options: Any
) -> Iterator[Any]:
    """A page at an address. It may ask for what begins as `allowed`, and say on its console what holds `expected`."""
    trouble: list[str] = []
    page = running.new_page(**options)

    def said(text: str) -> None:
        if not expected or expected not in text:
            trouble.append(text)

    page.on("console", lambda message: said(f"{message.type}: {message.text} {message.location['url']}"))
    page.on("pageerror", lambda error: said(str(error)))
    page.on(
        "request",
        lambda request: None if request.url.startswith((*allowed, "data:")) else said(f"request: {request.url}"),
    )
    page.goto(address)
    yield page
    page.close()
    assert not trouble, "\n".join(trouble)


@contextmanager
def open_page(path: Path, width: int = 1200, height: int = 900) -> Iterator[Any]:
    """A page in a file, in a browser of its own."""
    viewport = {"width": width, "height": height}
    with (
        chromium() as running,
        watched(running, path.as_uri(), (path.parent.as_uri() + "/",), viewport=viewport) as page,
    ):
        yield page
