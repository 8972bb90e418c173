"""What the built pages must hold to: nothing is loaded from another host, no link is broken, no picture lacks words."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)

LOADS = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
    "link": "href",
}
IN_STYLES = re.compile(r"""url\(\s*['"]?([^'")]+)|@import\s+['"]([^'"]+)""")


class Page(HTMLParser):
    """A page's links, what it loads, the names that links may lead to, and its pictures without words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.names: set[str] = set()
        self.wordless: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {key: value or "" for key, value in attrs}
        self.names |= {given[key] for key in ("id", "name") if key in given}
        if (
            tag in LOADS
            and LOADS[tag] in given
            and given.get("rel") not in {"index", "search", "next", "prev", "canonical"}
        ):
            self.loads.append(given[LOADS[tag]])
        elif tag == "a" and "href" in given:
            self.links.append(given["href"])
        self.loads += [first or second for first, second in IN_STYLES.findall(given.get("style", ""))]
        if tag == "img" and not given.get("alt", "").strip():
            self.wordless.append(given.get("src", ""))


def is_outside(address: str) -> bool:
    """Whether an address leads to another host; `data:` and what is relative do not."""
    return bool(urlsplit(address).netloc) or address.startswith("//")


def faults(site: Path) -> list[str]:
    """Returns what is wrong with a built site, one line for each fault."""
    found: list[str] = []
    read = {file.resolve(): Page(file.read_text(encoding="utf-8")) for file in sorted(site.rglob("*.html"))}
    for file, page in read.items():
        name = file.relative_to(site.resolve()).as_posix()
        found += [f"{name}: loads {address} from another host" for address in page.loads if is_outside(address)]
        found += [f"{name}: no words for the picture {source}" for source in page.wordless]
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            if not target.is_file():
                found.append(f"{name}: {link} leads nowhere")
            elif parts.fragment and target in read and unquote(parts.fragment) not in read[target].names:
                found.append(f"{name}: {link} leads to no place on its page")
    for style in sorted(site.rglob("*.css")):
        addresses = [first or second for first, second in IN_STYLES.findall(style.read_text(encoding="utf-8"))]
        found += [f"{style.name}: loads {address} from another host" for address in addresses if is_outside(address)]
    return found


def check(app: Sphinx, error: Exception | None) -> None:
    if error is None and app.builder.format == "html":
        for fault in faults(Path(app.outdir)):
            logger.warning("%s", fault)


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("build-finished", check, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
