"""Pages of the source files that other pages name, so that no reader has to leave the site.

What leads to one: a link of Markdown to a file or a folder of the checkout that is no page, and to a test's line if the
link's words are its name; in `docs/papers`, code that names something there, as `statistics.moments.Moments.merge` or
`tests/test_x.py::test_name`; and "source" in the reference.
"""

from __future__ import annotations

import ast
import html
import re
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from docutils import nodes
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import TextLexer, get_lexer_for_filename
from pygments.util import ClassNotFound
from sphinx import addnodes
from sphinx.application import Sphinx

NAME = re.compile(r"(?:blemish\.)?[a-z_]\w*(?:\.\w+)+")
TEST = re.compile(r"(tests/[\w/]+\.py)(?:::(\w+))?")


@cache
def lines_of(file: Path) -> dict[str, int]:
    """Returns the line of each function, class and method of a file, by its name, and of each name that is set."""
    found: dict[str, int] = {}

    def walk(body: list[ast.stmt], within: str) -> None:
        for node in body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                found[within + node.name] = node.lineno
                walk(node.body, f"{within}{node.name}.")
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                found[within + node.target.id] = node.lineno
            elif isinstance(node, ast.Assign):
                found.update({within + to.id: node.lineno for to in node.targets if isinstance(to, ast.Name)})

    walk(ast.parse(file.read_text(encoding="utf-8")).body, "")
    return found


def place_of(root: Path, name: str) -> tuple[str, int] | None:
    """Returns file and line of what code names, such as `statistics.moments.Moments.merge`; `None` if it is absent."""
    if found := TEST.fullmatch(name):
        file = root / found[1]
        line = lines_of(file).get(found[2], 0) if file.is_file() and found[2] else 1
        return (found[1], line) if file.is_file() and line else None
    if not NAME.fullmatch(name):
        return None
    parts = name.removeprefix("blemish.").split(".")
    for split in range(len(parts), 0, -1):
        within = "/".join(["src", "blemish", *parts[:split]])
        rest = ".".join(parts[split:])
        for path in (f"{within}.py", f"{within}/__init__.py"):
            if (root / path).is_file() and (not rest or rest in lines_of(root / path)):
                return path, lines_of(root / path)[rest] if rest else 1
    return None


def is_text(file: Path) -> bool:
    """Whether there is a file that can be shown as text."""
    try:
        return bool(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False


def home_of(module: str, name: str) -> str:
    """Returns the full name by which an entry of the reference is defined, which may be in a module further down."""
    outer, _, inner = name.partition(".")
    thing = getattr(import_module(module), outer)
    names = [getattr(thing, "__module__", module), getattr(thing, "__qualname__", outer), inner]
    return ".".join(filter(None, names))


def address(app: Sphinx, path: str, line: int = 0) -> str:
    """Returns the way from the page that is read to the page of a file, and notes that this one is needed."""
    named: set[str] = app.env.source_pages  # type: ignore[attr-defined]
    named.add(path)
    return app.builder.get_relative_uri(app.env.docname, f"source/{path}") + (f"#L-{line}" if line else "")


def breakable(name: str) -> nodes.literal:
    """Returns a name as code that may go on in the next line after a dot, a slash or a colon."""
    code = nodes.literal()
    for part in re.split(r"(?<=[./:])(?=\w)", name):
        code += [nodes.Text(part), nodes.raw("", "<wbr>", format="html")]
    return code


def link(app: Sphinx, doctree: nodes.document) -> None:
    """Leads to pages of source what on a page names a file, a folder, or something in the code."""
    root = Path(app.srcdir)
    for node in [*doctree.findall(addnodes.download_reference), *doctree.findall(addnodes.pending_xref)]:
        target = Path(app.env.relfn2path(node["reftarget"], app.env.docname)[1]).resolve()
        if target.is_relative_to(root) and ((node["reftype"] == "myst" and target.is_dir()) or is_text(target)):
            path = target.relative_to(root).as_posix()
            line = (
                lines_of(target).get(f"test_{node.astext().replace(' ', '_')}", 0) if path.startswith("tests/") else 0
            )
            node.replace_self(nodes.reference("", "", *node.children, refuri=address(app, path, line)))
    for entry in doctree.findall(addnodes.desc_signature):
        if entry["module"] and (place := place_of(root, home_of(entry["module"], entry["fullname"]))):
            entry += nodes.reference("", "source", refuri=address(app, *place), classes=["source"])
    if app.env.docname.startswith("docs/papers/"):
        for code in list(doctree.findall(nodes.literal)):
            if not isinstance(code.parent, nodes.reference) and (place := place_of(root, code.astext())):
                code.replace_self(nodes.reference("", "", breakable(code.astext()), refuri=address(app, *place)))


def pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yields the pages of all files that were named; files of a folder that was named have one too."""
    root = Path(app.srcdir)
    named: set[str] = app.env.source_pages  # type: ignore[attr-defined]
    folders = sorted(path for path in named if (root / path).is_dir())
    for path in folders:
        files = sorted(file for file in (root / path).iterdir() if is_text(file))
        named |= {file.relative_to(root).as_posix() for file in files}
        name = path.rpartition("/")[2]
        items = "".join(f'<li><a href="{name}/{file.name}.html">{html.escape(file.name)}</a></li>' for file in files)
        yield f"source/{path}", {"title": path, "body": f"<h1>{path}</h1><ul>{items}</ul>", "parents": []}, "page.html"
    for path in sorted(named - set(folders)):
        text = (root / path).read_text(encoding="utf-8")
        try:
            lexer = get_lexer_for_filename(path)
        except ClassNotFound:
            lexer = TextLexer()
        code = highlight(text, lexer, HtmlFormatter(linenos="inline", lineanchors="L", cssclass="highlight"))
        body = f"<h1>{html.escape(path)}</h1>{code}"
        yield f"source/{path}", {"title": path, "body": body, "parents": []}, "page.html"


def start(app: Sphinx) -> None:
    app.env.source_pages = set()  # type: ignore[attr-defined]


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("builder-inited", start)
    app.connect("doctree-read", link, priority=400)  # before files of links are taken for downloads, at 500
    app.connect("html-collect-pages", pages)
    return {"parallel_read_safe": False, "parallel_write_safe": False}
