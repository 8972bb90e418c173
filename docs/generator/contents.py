"""The order of pages, read from the lists of links in each `index.md`: plain Markdown where the code is hosted, the
navigation here. A page that no list names is an orphan, which Sphinx warns of.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any

from sphinx.application import Sphinx

HEADING = re.compile(r"^## +(.+)$")
ENTRY = re.compile(r"^- \[([^\]]+)\]\(([^)#:]+)\.md\)")
TO_START = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta http-equiv="refresh" content="0; url={page}"></head><body><a href="{page}">{title}</a></body></html>
"""


def contents_of(text: str) -> str:
    """Returns one hidden table of contents for each section of a page that lists pages, in MyST's Markdown."""
    sections: list[tuple[str, list[str]]] = [("", [])]
    for line in text.splitlines():
        if found := HEADING.match(line):
            sections.append((found[1], []))
        elif found := ENTRY.match(line):
            sections[-1][1].append(f"{found[1]} <{found[2]}>")
    return "".join(
        "\n```{toctree}\n:hidden:\n" + (f":caption: {name}\n" if name else "") + "\n" + "\n".join(pages) + "\n```\n"
        for name, pages in sections
        if pages
    )


def add_contents(app: Sphinx, docname: str, source: list[str]) -> None:
    if PurePosixPath(docname).name == "index":
        source[0] += contents_of(source[0])


def write_start(app: Sphinx, error: Exception | None) -> None:
    """Writes the page that is opened where no page is named; it leads to the root of the contents."""
    root = app.config.root_doc
    if error is None and root != "index":
        start = TO_START.format(title=app.config.project, page=f"{root}.html")
        (Path(app.outdir) / "index.html").write_text(start, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("source-read", add_contents)
    app.connect("build-finished", write_start)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
